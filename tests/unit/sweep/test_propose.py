"""A command that proposes: what it is told, what is kept, and answers that cannot be run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from tests.unit.sweep.toy_sweep import Log, nothing, opened, plan_of

from fewstep.errors import UserError
from fewstep.evaluate.folder import held
from fewstep.runs import RunError
from fewstep.sweep.propose import propose
from fewstep.sweep.result import result
from fewstep.sweep.store import trials_of

SCRIPT = """
import json, sys, time
history = json.load(sys.stdin)
open(sys.argv[1] + ".seen", "a").write(json.dumps(history) + "\\n")
answer = json.load(open(sys.argv[1]))[len(history["trials"]) - 1]
time.sleep(20 if answer == "sleep" else 0)
print(answer if isinstance(answer, str) else json.dumps(answer))
sys.exit(3 if answer == "die" else 0)
"""


def command(folder: Path, answers: list[object]) -> str:
    """One answer for each call, by the number of trials there are."""
    script, file = folder / "propose.py", folder / "answers.json"
    script.write_text(SCRIPT)
    file.write_text(json.dumps(answers))
    return f"{sys.executable} -S {script} {file}"


def seen(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "answers.json.seen").read_text().splitlines()]


def lr(value: float) -> dict:
    return {"change": {"optim.student.lr": value}}


def test_gains_are_kept_the_rest_is_reverted_and_bad_answers_are_told_back(tmp_path: Path) -> None:
    answers = [
        lr(3e-4), {"change": {"method.renoise_mean": 0.5}}, "nonsense",
        {"change": {"optim.student.lrr": 1}}, lr(3e-4), {"change": {}},
        {"change": {"optim.student.lr": "fast"}}, "die", lr(1e-3), {"stop": True},
    ]  # fmt: skip
    plan = plan_of((), propose=command(tmp_path, answers), trials=20)
    sweep, log = opened(tmp_path / "sweep", plan), Log(tmp_path / "runs.txt")
    with pytest.raises(UserError, match="5 answers of --propose in a row could not be run"):
        propose(sweep, log.means(), nothing)
    assert propose(sweep, log.means(), nothing)  # what was refused is there, and nobody asks twice
    rows = {t.number: t for t in trials_of(sweep)}
    kept = {n: t.result.kept for n, t in rows.items() if t.result is not None}
    assert kept == {0: None, 1: True, 2: False, 3: False, 4: False, 5: False, 6: False, 7: False,
                    8: False, 9: True}  # fmt: skip
    why = {n: t.result.why for n, t in rows.items() if t.result is not None}
    assert why[1].startswith("better than trial 0: kid -0.4")
    assert why[2].startswith("no better for certain than trial 1")
    assert "it is not JSON: 'nonsense'" in why[3]
    assert "did you mean 'optim.student.lr'?" in why[4]
    assert why[5] == "that was tried as trial 1"
    assert "must be a mapping of fields" in why[6] and "must be a float, got 'fast'" in why[7]
    assert "the command ended with 3" in why[8]
    # the change of trial 2 is gone, that of trial 1 was replaced
    assert rows[2].change == {"optim.student.lr": 3e-4, "method.renoise_mean": 0.5}
    assert rows[9].change == {"optim.student.lr": 1e-3} and rows[9].parent == 1
    last = seen(tmp_path)[-1]
    assert last["recipe"] == "toy" and last["base"]["optim"]["student"]["lr"] == 1e-4
    assert last["best"]["number"] == 9 and last["best"]["change"] == {"optim.student.lr": 1e-3}
    told = last["trials"]
    assert [row["number"] for row in told] == list(range(10))
    assert told[2]["change"] == {"method.renoise_mean": 0.5} and told[2]["on"] == 1
    assert told[4]["change"] == {"optim.student.lrr": 1} and told[4]["score"] is None
    assert told[1]["low"] < told[1]["score"] < told[1]["high"] and told[1]["seeds"] == [0, 1]
    facts = result(sweep, "x")
    assert facts["winner"] == 9 and facts["by"] == "propose" and facts["over"]
    # refused answers have cost nothing
    assert facts["runs"]["done"] == len(log.lines("begin")) == 2 * 4 + 3 * 3


def test_an_answer_that_does_not_come_and_a_second_proposer(tmp_path: Path) -> None:
    plan = plan_of((), propose=command(tmp_path, ["sleep", {"stop": True}]))
    sweep, log = opened(tmp_path / "sweep", plan), Log(tmp_path / "runs.txt")
    with held(tmp_path / "sweep" / "proposer"), pytest.raises(RunError, match="in use by process"):
        propose(sweep, log.means(), nothing)
    assert propose(sweep, log.means(), nothing, patience=0.5)
    refused = trials_of(sweep)[1].result
    assert refused is not None and refused.why == "there was none in 0.5 seconds"


def test_a_number_that_is_too_large_is_refused(tmp_path: Path) -> None:
    large = '{"change": {"optim.student.lr": 1e999}}'  # which Python reads as infinite
    plan = plan_of((), propose=command(tmp_path, [large, {"stop": True}]))
    sweep, log = opened(tmp_path / "sweep", plan), Log(tmp_path / "runs.txt")
    assert propose(sweep, log.means(), nothing)
    refused = trials_of(sweep)[1].result
    assert refused is not None
    assert refused.why == "the value of optim.student.lr is too large for a number"


def test_the_example_of_the_documentation_proposes_what_can_be_run(tmp_path: Path) -> None:
    text = Path("docs/sweep.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(example.splitlines()) <= 10
    (tmp_path / "propose.py").write_text(example)
    plan = plan_of((), propose=f"{sys.executable} {tmp_path / 'propose.py'}", trials=20)
    sweep, log = opened(tmp_path / "sweep", plan), Log(tmp_path / "runs.txt")
    assert propose(sweep, log.means(), nothing)
    states = [t.result.state for t in trials_of(sweep) if t.result is not None]
    assert len(states) == 8 and "refused" not in states  # its ideas, and then it stops


def test_it_ends_after_as_many_trials_as_planned(tmp_path: Path) -> None:
    plan = plan_of((), propose=command(tmp_path, [lr(2e-4), lr(3e-4), lr(4e-4)]), trials=3)
    sweep, log = opened(tmp_path / "sweep", plan), Log(tmp_path / "runs.txt")
    assert propose(sweep, log.means(), nothing)
    assert [t.number for t in trials_of(sweep)] == [0, 1, 2]
