"""The rule of a watch, over looks that are made up."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fewstep.jsonl import no_nan
from fewstep.train import alarms
from fewstep.train.alarms import (
    ACTIONS,
    GO_BACK,
    Alarm,
    Course,
    Policy,
    WatchConfig,
    told,
)
from fewstep.train.signs import SIGNS, Look, Sign, band

CFG = WatchConfig(every=10, policy=replace(GO_BACK, seeds="slow", heads_win="stop"))
START = {"detail": 1.0, "prompts": 0.8, "seeds": 0.6, "away": 0.0, "moved": 0.0}


def looks(*values: dict[str, float]) -> list[Look]:
    """The first is of the start, the others differ from it in what is given; ten steps apart."""
    return [
        Look(step=10 * i, values=START | own, beside={"detail": 2.0} if i == 0 else {})
        for i, own in enumerate(({}, *values))
    ]


def course(found: list[Look], cfg: WatchConfig, steps: int, every: int = 10) -> Course:
    return alarms.course(found, cfg, steps=steps, checkpoint_every=every)


WELL: dict[str, float] = {}
FAR = {"away": 0.7}


def test_a_relative_band_is_learnt_from_the_start_and_from_what_is_to_come() -> None:
    sign = Sign(name="detail", words="", low=0.5, high=3.0, relative=True)
    start = looks()[0]
    assert band(sign, start) == (0.5 * 1.0, 3.0 * 2.0)
    assert band(sign, replace(start, beside={})) == (0.5, 3.0)
    assert band(sign, replace(start, beside={"detail": math.nan})) == (0.5, 3.0)
    assert band(sign, replace(start, beside={"detail": math.inf})) == (0.5, 3.0)
    nothing = replace(start, values={"detail": 0.0}, beside={})
    assert band(sign, nothing) == (-math.inf, math.inf)
    assert band(Sign(name="gap", words="", low=0.1, high=1.4), start) == (0.1, 1.4)


def test_an_alarm_takes_patience() -> None:
    assert course(looks(WELL, FAR, WELL, FAR), CFG, 100).alarms == []
    found = course(looks(WELL, FAR, FAR, WELL), CFG, 100)
    [alarm] = found.alarms
    assert alarm == Alarm(step=30, name="far", sign="away", value=0.7, low=-math.inf, high=0.5,
                          action="back", back_to=10)  # fmt: skip
    assert alarm.line() == (
        "alarm at step 30: far: distance of pictures from those before training is 0.7, healthy "
        "is up to 0.5; back to step 10"
    )
    assert course(looks({"gap": 0.0}, {"gap": 2.0}), CFG, 100).alarms == []  # of two alarms
    assert course(looks({"gap": 0.0}, {"gap": 0.0}), CFG, 100).alarms[0].name == "heads_lost"
    assert course(looks({"detail": 9.0}, {"detail": 0.1}), CFG, 100).alarms[0].name == "looks"
    assert len(course(looks(FAR), replace(CFG, patience=1), 100).alarms) == 1


def test_what_is_not_finite_needs_one_look() -> None:
    found = course(looks(WELL, {"away": math.nan}), CFG, 100)
    assert [alarm.step for alarm in found.alarms] == [20] and found.take == 10
    assert course(looks(WELL, {"skipped": 0.2}), CFG, 100).alarms == []
    assert course(looks(WELL, {"skipped": 0.2}, {"skipped": 0.2}), CFG, 100).take == 10


def test_what_is_only_recorded_does_not_keep_a_checkpoint_from_being_healthy() -> None:
    won = {"gap": 1.5}
    recorded = replace(CFG, policy=GO_BACK)
    found = course(looks(WELL, won, won, won, won | FAR, won | FAR), recorded, 100)
    assert found.take == 40 and found.alarms[0].name == "heads_win"
    assert course(looks(WELL, won), replace(CFG, policy=Policy(heads_win="stop")), 100).healthy == [
        0, 10
    ]  # fmt: skip


def test_it_goes_back_to_the_newest_healthy_checkpoint_and_then_to_the_one_before() -> None:
    ill = [WELL, WELL, FAR, FAR]
    found = course(looks(*ill), CFG, 100)
    assert (found.take, found.healthy, found.rate, found.stop) == (20, [10], 0.5, None)
    assert course(looks(*ill, FAR), CFG, 100).take is None  # patience begins anew
    again = course(looks(*ill, FAR, FAR), CFG, 100)
    assert (again.take, again.healthy, again.rate, again.stop) == (10, [10], 0.25, None)
    assert [alarm.step for alarm in again.alarms] == [40, 60]
    over = course(looks(*ill, FAR, FAR, FAR, FAR), CFG, 100)
    assert over.take == 10 and over.rate == 0.25
    assert (
        over.stop == "the alarm far at step 80, and the run has gone back watch.returns = 2 times"
    )
    well = course(looks(*ill, WELL, FAR, FAR), CFG, 100)
    assert (well.take, well.healthy) == (50, [10])


def test_a_healthy_look_speaks_for_the_newest_checkpoint() -> None:
    found = course(looks(WELL, WELL, FAR, FAR), CFG, 100, every=100)
    assert (found.take, found.healthy) == (0, [0])
    assert course(looks(WELL, WELL, WELL), CFG, 100, every=15).healthy == [15, 30]
    assert course(looks(WELL, WELL, FAR), CFG, 100, every=15).healthy == [0, 15]
    # what was written at the step of a return is what it went back from
    back = course(looks(WELL, FAR, FAR, WELL), CFG, 100, every=30)
    assert back.alarms[0].back_to == 0 and back.healthy == [0]
    assert course(looks(WELL, FAR, FAR, WELL, WELL, WELL), CFG, 100, every=30).healthy == [0, 60]
    assert course(looks(WELL, WELL, WELL), CFG, 100).healthy == [20, 30]
    assert course(looks(WELL, FAR, WELL), CFG, 100).healthy == [10, 30]


def test_an_alarm_at_the_last_step_ends_with_healthy_weights() -> None:
    found = course(looks(WELL, FAR, FAR), CFG, 30)
    assert (found.take, found.stop) == (10, "the alarm far at its last step")
    assert course(looks(WELL, FAR, FAR), replace(CFG, policy=Policy()), 30).take is None


def test_other_policies() -> None:
    alike, won = {"seeds": 0.1}, {"gap": 1.6}
    slower = course(looks(WELL, alike, alike, alike), CFG, 100)
    assert (slower.rate, slower.take, len(slower.alarms)) == (0.5, None, 1)  # not at every look
    twice = course(looks(alike, alike, WELL, alike, alike), CFG, 100)
    assert twice.rate == 0.25 and len(twice.alarms) == 2
    stopped = course(looks(WELL, won, won), CFG, 100)
    assert stopped.take == 10
    assert stopped.stop == "the alarm heads_win at step 30, whose watch.policy is stop"
    both = course(looks(WELL, won | FAR, won | FAR), CFG, 100)
    assert both.stop is not None and {a.name for a in both.alarms} == {"far", "heads_win"}
    kept = course(looks(WELL, FAR, FAR), replace(CFG, policy=Policy()), 100)
    assert (kept.take, kept.rate, kept.stop) == (None, 1.0, None) and len(kept.alarms) == 1


def test_every_sign_has_an_alarm_and_every_alarm_a_sign() -> None:
    names = {name for sign in SIGNS for name in (sign.below, sign.above) if name}
    assert names == {f for f in vars(Policy())}
    for sign in SIGNS:
        assert bool(sign.below) == (sign.low > -math.inf)
        assert bool(sign.above) == (sign.high < math.inf)


def test_what_is_told_is_json() -> None:
    own = looks(WELL, FAR, FAR)
    found = told(own, course(own, CFG, 100))
    assert set(found["bands"]) == set(START)
    again = json.loads(json.dumps(no_nan(found), allow_nan=False))
    assert again["bands"]["away"] == {
        "words": "distance of pictures from those before training", "low": None, "high": 0.5
    }  # fmt: skip
    assert again["take"] == 10 and again["alarms"][0]["low"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"every": -1}, r"watch\.every must be >= 0, got -1"),
        ({"seeds": 1}, r"watch\.seeds must be >= 2, got 1"),
        ({"prompts": 7}, r"watch\.prompts must be >= 8, got 7"),
        ({"prompts": 33}, r"prompts x watch\.seeds must be at most 64 pictures a look, got 66"),
        ({"patience": 0}, r"watch\.patience must be >= 1, got 0"),
        ({"slower": 0.0}, r"watch\.slower must lie in \(0, 1\], got 0\.0"),
    ],
)
def test_bad_values(change: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        WatchConfig(**change)  # type: ignore[arg-type]


DOC = (Path(__file__).parents[2] / "docs" / "health.md").read_text(encoding="utf-8")


def test_the_page_says_every_band() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| ", DOC, re.M)
    told = {name: (healthy, re.findall(r"`(\w+)`", alarms)) for name, healthy, alarms in rows}
    assert set(told) == {sign.name for sign in SIGNS}
    for sign in SIGNS:
        end = " x" if sign.relative else ""
        low, high = f"{sign.low:g}{end}", f"{sign.high:g}{end}"
        text = f"{low} to {high}"
        if sign.low == -math.inf:
            text = f"up to {high}"
        elif sign.high == math.inf:
            text = f"from {low}"
        names = dict.fromkeys(name for name in (sign.below, sign.above) if name)
        assert told[sign.name] == (text, list(names)), sign.name
    for action in ACTIONS:
        assert f"| `{action}` |" in DOC
