"""A way to more variety in words: how it is read and called, and what is refused."""

from __future__ import annotations

import pytest

from fewstep.errors import UserError
from fewstep.experiment.varieties import parse_variety
from fewstep.flow.variety import ConditionNoise, Damped, FirstStepBy, ScaledNoise, Variety


@pytest.mark.parametrize(
    ("text", "variety", "title"),
    [
        ("first=shapes", FirstStepBy(model="shapes"), "first step by shapes"),
        ("first=a/b=c,w=2", FirstStepBy(model="a/b=c", guidance=2),
         "first step by a/b=c with w = 2"),
        ("prompt-noise=0.3", ConditionNoise(strength=0.3),
         "prompt noise 0.3 on 0.5 of the values above 0.92"),
        ("prompt-noise=.3,above=0,share=1", ConditionNoise(strength=0.3, share=1, above=0),
         "prompt noise 0.3 on all values above 0"),
        ("damp=0.3", Damped(factor=0.3), "mean of block 1 times 0.3 above 0.92"),
        ("damp=0.3,block=4,above=.5", Damped(factor=0.3, block=4, above=0.5),
         "mean of block 4 times 0.3 above 0.5"),
        ("noise=1.1", ScaledNoise(scale=1.1), "noise times 1.1"),
    ],
)  # fmt: skip
def test_words_are_read_and_have_a_title(text: str, variety: Variety, title: str) -> None:
    found = parse_variety(text)
    assert found == variety and found.title == title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no way to more variety; known: damp, first, noise, prompt-noise"),
        ("prompt_noise=0.3", "is no way to more variety; did you mean 'prompt-noise'?"),
        ("prompt-noise", "prompt-noise must be a number, got ''"),
        ("prompt-noise=much", "prompt-noise must be a number, got 'much'"),
        ("prompt-noise=0", "'prompt-noise=0': strength must be a finite number above 0, got 0"),
        ("damp=0.3,blok=2", "damp has no 'blok'; did you mean 'block'?"),
        ("damp=0.3,block=1.5", "block must be a whole number, got '1.5'"),
        ("damp=0.3,above=2", r"above must be a noise level in \[0, 1\), got 2"),
        ("noise=1,noise=2", "says noise twice; say it once"),
        ("noise=nan", "scale must be a finite number above 0, got nan"),
        ("first", "the first step needs the name of a model, got an empty one"),
        ("first=a,damp=1", "first has no 'damp'; known: first, w"),
    ],
)
def test_other_words_are_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as found:
        parse_variety(text)
    assert "\n" not in str(found.value)
