"""The order of checks: what stands on a failure is not looked at, and what breaks has failed."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import pytest
import torch

from fewstep.cli.app import is_hub_id
from fewstep.cli.examining import known
from fewstep.doctor.base import (
    Check,
    Finding,
    bad,
    doubtful,
    examine,
    good,
    not_here,
    of_model,
)
from fewstep.doctor.checks import CHECKS
from fewstep.doctor.patient import Patient
from fewstep.doctor.run import differences
from fewstep.errors import UserError

NOBODY = cast(Patient, None)


def check(name: str, finding: Finding | Exception, **more: Any) -> Check:
    def look(_: Patient) -> Finding:
        if isinstance(finding, Exception):
            raise finding
        return finding

    return Check(name=name, asks="", look=look, **more)


def states(*checks: Check, **how: bool) -> dict[str, str]:
    return {a.check.name: a.state for a in examine(NOBODY, checks, **how)}


def test_what_stands_on_a_failure_is_not_looked_at_nor_what_stands_on_that() -> None:
    found = states(
        check("a", bad("x", "y")), check("b", good("x"), needs=("a",)),
        check("c", good("x"), needs=("b",)), check("d", good("x")),
    )  # fmt: skip
    assert found == {"a": "fail", "b": "skip", "c": "skip", "d": "pass"}


def test_a_warning_and_a_question_that_does_not_arise_hold_nothing_up() -> None:
    found = states(
        check("a", doubtful("x", "y")), check("b", not_here("x")),
        check("c", good("x"), needs=("a", "b")),
    )  # fmt: skip
    assert found == {"a": "warn", "b": "skip", "c": "pass"}


def test_a_check_that_cannot_be_made_has_failed_and_says_why() -> None:
    [answer] = examine(NOBODY, [check("b", KeyError("x"))])
    assert answer.state == "fail"
    [answer] = examine(NOBODY, [check("a", UserError("no such\n file"))])
    assert answer.line() == "FAIL  a: could not be looked at: no such file; repair that first"


def test_what_there_is_no_memory_for_is_no_fault() -> None:
    [answer] = examine(NOBODY, [check("a", torch.OutOfMemoryError("CUDA"))])
    assert answer.state == "warn" and "more memory than there is" in answer.finding.evidence


def test_numbers_that_are_not_finite_pass_nothing() -> None:
    nan = good("fine", errors={"a": [1.0, float("nan")]})
    assert states(check("a", nan), check("b", good("x"), needs=("a",))) == {
        "a": "fail",
        "b": "skip",
    }
    assert known(nan.facts) == {"errors": {"a": [1.0, None]}}


def test_of_two_models_the_worse_answer_counts() -> None:
    class Two:
        models: ClassVar = {"the teacher": 1, "the model": 2}

    def look(model: Any) -> Finding:
        return bad("no", "do") if model == 2 else good("yes")

    [answer] = examine(cast(Patient, Two), [of_model(Check(name="a", asks="", look=look))])
    assert answer.line() == "FAIL  a: of the model: no; do"


@pytest.mark.parametrize(
    ("name", "hub"),
    [("some/model", True), ("data/prompts.txt", False), ("~/model", False), ("./model", False),
     ("tests/nothing", False), ("a/b/c", False), ("model", False), ("/model", False)],
)  # fmt: skip
def test_what_looks_like_a_path_is_no_name_on_a_hub(name: str, *, hub: bool) -> None:
    assert is_hub_id(name) == hub


def test_the_quick_part_leaves_out_what_is_slow_or_moves_weights() -> None:
    checks = (
        check("a", good("x")),
        check("b", good("x"), slow=True),
        check("c", good("x"), moves=True),
    )
    assert [*states(*checks)] == ["a", "b", "c"]
    assert [*states(*checks, quick=True)] == ["a", "c"]
    assert [*states(*checks, quick=True, moving=False)] == ["a"]


def test_every_check_comes_after_what_it_stands_on() -> None:
    seen: set[str] = set()
    for each in CHECKS:
        assert set(each.needs) <= seen, each.name
        assert each.name not in seen
        seen.add(each.name)


def test_a_validated_run_differs_in_what_decides_a_result() -> None:
    validated = {"optim": {"lr": 1e-4, "warmup": 3}, "seed": 0, "eval": {"prompts": 8}, "a": None}
    mine = {"optim": {"lr": 1e-3, "warmup": 3}, "seed": 1, "eval": {"prompts": 9}, "b": 2}
    assert differences(mine, validated) == {"optim.lr": (1e-4, 1e-3), "b": (None, 2)}
