"""Prompts as samples, and samples that share one noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fewstep.data.drawing import noise_of
from fewstep.data.prompts import AT_ONCE, PromptSamples
from fewstep.data.teacher import TeacherSamples
from fewstep.families.base import Cond

PROMPTS = [f"prompt {i}" for i in range(AT_ONCE + 3)]
CPU = torch.device("cpu")


def encode(prompts: Sequence[str]) -> Cond:
    """One token for each letter of a prompt's number, all of that number."""
    numbers = [prompt.split()[1] for prompt in prompts]
    return Cond(tuple(torch.full((len(n), 2), float(n)) for n in numbers))


def test_a_row_is_its_own_prompt_and_an_id_is_the_prompts() -> None:
    heard: list[tuple[str, int, int]] = []
    samples = PromptSamples(PROMPTS, encode, (3, 4, 5), lambda *told: heard.append(told))
    assert heard == [("encoding prompts", 64, 67), ("encoding prompts", 67, 67)]
    assert len(set(samples.ids)) == len(PROMPTS)
    assert list(samples.lengths) == [len(str(i)) for i in range(len(PROMPTS))]
    x0, cond = samples.take([66, 2])
    assert x0.shape == (2, 3, 4, 5) and (x0 == 0).all()
    assert [tokens[0, 0].item() for tokens in cond.tokens] == [66, 2]
    turned = PromptSamples(PROMPTS[::-1], encode, (3, 4, 5))
    assert turned.ids == samples.ids[::-1]


def test_one_noise_for_all_or_one_each() -> None:
    each, one = TeacherSamples(), TeacherSamples(noise="one")
    apart = noise_of(each, ["a", "b"], (2, 3, 3), CPU)
    alike = noise_of(one, ["a", "b"], (2, 3, 3), CPU)
    assert torch.equal(alike[0], alike[1]) and not torch.equal(apart[0], apart[1])
    assert torch.equal(noise_of(one, ["c"], (2, 3, 3), CPU)[0], alike[0])
    other = noise_of(TeacherSamples(noise="one", seed=1), ["a"], (2, 3, 3), CPU)
    assert not torch.equal(other[0], alike[0])
