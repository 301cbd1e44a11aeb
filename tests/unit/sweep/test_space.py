"""What may vary: read against the types of the recipe's own fields, and refused in a sentence."""

from __future__ import annotations

import pytest

from fewstep.errors import UserError
from fewstep.recipes import RECIPES
from fewstep.sweep.space import Choice, Range, read_space, written

BASE = RECIPES["ladd_shapes_demo"]()


def test_ranges_and_choices_have_the_type_of_their_field() -> None:
    words = ["optim.student.lr=1e-5..1e-3:log", "method.renoise_mean=-1..1",
             "method.loss=hinge,softplus", "method.student_every=1..4", "data.alike=true,false",
             "data.micro_batch=none,8", "optim.student.clip=0.5..2"]  # fmt: skip
    space = read_space(words, BASE)
    assert space["optim.student.lr"] == Range(low=1e-5, high=1e-3, log=True)
    assert space["method.renoise_mean"] == Range(low=-1.0, high=1.0)
    assert space["method.student_every"] == Range(low=1, high=4, whole=True)
    assert isinstance(space["method.student_every"].ends[0], int)
    assert space["method.loss"] == Choice(values=("hinge", "softplus"))
    assert space["data.micro_batch"] == Choice(values=(None, 8))
    assert not space["data.alike"].holds(1) and space["data.alike"].holds(True)
    # sweep.yaml says it in the same words
    again = [f"{key}={written(own)}" for key, own in space.items()]
    assert read_space([word.replace("null", "none") for word in again], BASE) == space


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("optim.student.lr", "takes FIELD=LOW..HIGH or FIELD=A,B"),
        ("optim.student.l=1..2", "no field 'optim.student.l'; did you mean 'optim.student.lr'?"),
        ("method.loss=hinge,hings", "method.loss is 'hings'; did you mean 'hinge'?"),
        ("method.loss=hinge", "at least two different values"),
        ("method.loss=hinge,hinge", "at least two different values"),
        ("method.loss=a..b", "method.loss holds no number, so 'a..b' is no range of it"),
        ("method.student_every=1..2.5", "method.student_every must be an int, got 2.5"),
        ("optim.student.lr=a..1", "optim.student.lr must be a float, got 'a'"),
        ("optim.student.lr=1..", "optim.student.lr must be a float, got None"),
        ("method.renoise_mean=1..-1", "needs a range LOW..HIGH with LOW < HIGH"),
        ("method.renoise_mean=0..1:log", "cannot be tried on a logarithmic scale from 0.0"),
        ("method.renoise_mean=0..1:lin", "after a range comes :log or nothing"),
        ("method.student_every=0..4", "0 is never taken: in method: student_every must be >= 1"),
        ("optim.student.lr=-1,0.1", "-1.0 is never taken: in optim.student: lr must be"),
        ("method.student_probs=1,2", "must be a list"),
        ("seed=0..5", "seed is the same for all trials"),
        ("eval.prompts=8..16", "eval.prompts is the same for all trials"),
    ],
)
def test_what_cannot_be_varied(word: str, why: str) -> None:
    with pytest.raises(UserError) as error:
        read_space([word], BASE)
    assert why in str(error.value)


def test_a_value_that_some_combination_takes_is_no_mistake() -> None:
    """One sample at a time has no hinge, but it has a softplus."""
    alone = ["data.batch_size=4,32", "data.micro_batch=8,16"]
    with pytest.raises(UserError, match="micro_batch"):
        read_space([alone[1], "data.batch_size=1,4"], BASE)
    assert set(read_space(alone, BASE)) == {"data.batch_size", "data.micro_batch"}
    with pytest.raises(UserError, match=r"names data\.batch_size twice"):
        read_space([alone[0], alone[0]], BASE)
