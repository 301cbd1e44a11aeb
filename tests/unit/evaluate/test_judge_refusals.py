"""Pictures that cannot be judged beside each other are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.unit.evaluate.test_judge import PROMPTS, REFERENCE, WORLD, candidate, faded

from fewstep.errors import UserError
from fewstep.evaluate.judge import judge
from fewstep.evaluate.measures import Instruments, in_memory


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p[::-1], "other prompts: number 0 is 'blue 11' and 'red 0'; make both from one"),
        (lambda p: p[:8], "pictures of m have 8 prompts, the reference has 12"),
    ],
)
def test_pictures_of_other_prompts_are_refused(
    spoil: Callable[[tuple[str, ...]], tuple[str, ...]], said: str
) -> None:
    prompts = spoil(PROMPTS)
    pictures = in_memory(torch.zeros(len(prompts), 3, 16, 16), prompts, (0,))
    with pytest.raises(UserError, match=said):
        judge(
            [candidate(pictures)],
            REFERENCE,
            WORLD,
            Instruments(features={"shapes": WORLD.features}),
        )


def test_pictures_of_another_size_are_refused() -> None:
    large = in_memory(torch.zeros(12, 3, 32, 24), PROMPTS, (0,))
    instruments = Instruments(features={})
    said = "the pictures of m are 32 x 24 pixels, they are held against 16 x 16; make all at one"
    for world in (WORLD, None):
        with pytest.raises(UserError, match=said):
            judge([candidate(large)], REFERENCE, world, instruments)
    # the world's own pictures are what everything is judged by
    with pytest.raises(UserError, match="the pictures of the reference are 32 x 24 pixels"):
        judge([candidate(faded(1, 1))], large, WORLD, instruments)


def test_a_name_is_given_once() -> None:
    with pytest.raises(UserError, match="'m' is named twice"):
        judge([candidate(faded(1, 1))] * 2, REFERENCE, WORLD, Instruments(features={}))
