"""What a sweep has found, as sweep.json and best.yaml.

    {"schema": 1, "recipe", "command", "by": "tpe" or "propose", "score": key, "better": "lower" or
     "higher", "diversity": key, "metrics": {key: as in evaluation.json}, "space": {key: text},
     "runs": {"planned", "done"}, "over": whether the fresh runs are there,
     "trials": [{"number", "state", "why", "change", "values": {key of the space: value}, "kept",
                 "seeds", "metrics": {key: estimate},
                 "seconds": of a run, "gain": estimate or null, "better": bool}],
     "ranking": [number], "front": [number], "importance": {key: share},
     "fresh": [{"number", "seeds", "afresh", "sweep", "curse": estimates,
                "gain": estimate or null, "holds": bool, "why"}],
     "winner": number, "verdict": str, "diff": [{"key", "recipe", "winner"}],
     "environment": {...}}

estimate is that of evaluation.json. A gain is a trial minus the recipe, paired; "better" and
"holds" say that its interval excludes zero on the better side, on at least two training seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewstep.evaluate.catalogue import metric
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.codec import changed, flat, to_dict, to_yaml
from fewstep.machine import environment
from fewstep.runs import write_atomic
from fewstep.sweep.decide import confirmed, curse, difference, is_better, level
from fewstep.sweep.plan import is_share
from fewstep.sweep.sampler import importance
from fewstep.sweep.space import written
from fewstep.sweep.store import Sweep, Trial, draws_of, read_scored, trials_of, write_json
from fewstep.sweep.verdict import Afresh, verdict, winner_of
from fewstep.sweep.worker import finalists, fresh_seeds, paired_seeds, ranking

RECORD, BEST = "sweep.json", "best.yaml"


def write_result(sweep: Sweep, command: str) -> dict[str, Any]:
    """Both files, under the lock of the sweep's directory; what went into the record."""
    facts = result(sweep, command)
    write_json(sweep.directory / RECORD, facts)
    change = next(row["change"] for row in facts["trials"] if row["number"] == facts["winner"])
    text = to_yaml(changed(sweep.plan.base, change))
    write_atomic(sweep.directory / BEST, text.encode())
    return facts


def result(sweep: Sweep, command: str) -> dict[str, Any]:
    plan, trials = sweep.plan, [t for t in trials_of(sweep) if t.result is not None]
    recipe = next((t for t in trials if t.number == 0), None)
    final = finalists(sweep, trials)
    tried = [t for t in final if any(read_scored(t, s) for s in plan.fresh_seeds)]
    fresh = [afresh(sweep, t, recipe) for t in tried if recipe is not None]
    every = [read_scored(t, seed) for t in final for seed in plan.fresh_seeds]
    over = bool(final) and all(every)
    winner = winner_of(fresh if over else [], ranking(sweep, trials), plan.better)
    rows = [row_of(sweep, t, recipe) for t in trials]
    return {
        "schema": 1, "recipe": plan.recipe, "command": command,
        "by": "tpe" if plan.propose is None else "propose",
        "score": plan.score_key, "better": plan.better, "diversity": plan.diversity_key,
        "metrics": {key: metric(key).to_json() for key in plan.keys},
        "space": {key: written(own) for key, own in plan.space.items()},
        "runs": {"planned": plan.runs, "done": runs_done(sweep, trials)}, "over": over,
        "trials": rows, "ranking": [t.number for t in ranking(sweep, trials)],
        "front": front(rows, plan.score_key, plan.diversity_key, lower=plan.better == "lower"),
        "importance": dict(importance(sweep, trials)) if plan.propose is None else {},
        "fresh": [one.to_json() for one in fresh], "winner": winner,
        "verdict": verdict(plan, fresh if over else [], rows, winner),
        "diff": diff(sweep, trials, winner), "environment": environment(),
    }  # fmt: skip


def runs_done(sweep: Sweep, trials: Sequence[Trial]) -> int:
    seeds = [*sweep.plan.training_seeds, *sweep.plan.fresh_seeds]
    return sum(read_scored(t, seed) is not None for t in trials for seed in seeds)


def row_of(sweep: Sweep, trial: Trial, recipe: Trial | None) -> dict[str, Any]:
    """A trial as the record has it."""
    plan, own = sweep.plan, trial.result
    assert own is not None
    size, known = (plan.prompts, plan.pictures), flat(to_dict(plan.base))
    estimates: dict[str, Estimate] = {}
    gain: Estimate | None = None
    seconds: float | None = None
    if own.seeds:
        estimates = {
            key: level(draws_of(trial, own.seeds, key), *size, share=is_share(key))
            for key in plan.keys
        }
        scored = [read_scored(trial, seed) for seed in own.seeds]
        seconds = sum(one.seconds for one in scored if one is not None) / len(own.seeds)
        if recipe is not None and trial.number != 0:
            theirs = draws_of(recipe, own.seeds, plan.score_key)
            draws = draws_of(trial, own.seeds, plan.score_key)
            gain = difference(draws, theirs, *size, share=plan.share)
    return {
        "number": trial.number, "state": own.state, "why": own.why, "kept": own.kept,
        "change": dict(trial.change) or dict(trial.proposed if own.state == "refused" else {}),
        "values": {key: {**known, **trial.change}[key] for key in plan.space},
        "seeds": list(own.seeds), "metrics": {key: e.to_json() for key, e in estimates.items()},
        "seconds": seconds, "gain": None if gain is None else gain.to_json(),
        "better": gain is not None and own.state == "complete" and is_better(gain, plan.better),
    }  # fmt: skip


def afresh(sweep: Sweep, trial: Trial, recipe: Trial) -> Afresh:
    """A finalist on new seeds, beside what it was chosen on and beside the recipe."""
    plan, seeds = sweep.plan, fresh_seeds(sweep, trial)
    lost = [one for s in plan.fresh_seeds if (one := read_scored(trial, s)) and one.failed]
    why = "; ".join(f"seed {one.seed}: {one.why}" for one in lost)
    assert trial.result is not None
    size = plan.prompts, plan.pictures
    chosen_on = draws_of(trial, trial.result.seeds, plan.score_key)
    there = level(chosen_on, *size, share=plan.share)
    if not seeds:
        return Afresh(number=trial.number, seeds=(), sweep=there, why=why)
    own = draws_of(trial, seeds, plan.score_key)
    gain = None
    if trial.number != 0 and (both := paired_seeds(sweep, trial, recipe)):
        one, two = (draws_of(t, both, plan.score_key) for t in (trial, recipe))
        gain = confirmed(one, two, *size, share=plan.share)
    return Afresh(
        number=trial.number, seeds=seeds, sweep=there,
        afresh=level(own, *size, share=plan.share), curse=curse(chosen_on, own, *size),
        gain=gain, why=why,
        # a configuration that fails on a seed holds on none
        holds=gain is not None and not lost and is_better(gain, plan.better),
    )  # fmt: skip


def front(
    rows: Sequence[Mapping[str, Any]], score: str, diversity: str, *, lower: bool
) -> list[int]:
    """Numbers of complete trials that no other one beats in score, diversity and cost at once.

    Layout diversity is best at the truth's, which is 1. A trial without diversity has no place.
    """

    def point(row: Mapping[str, Any]) -> tuple[float, float, float]:
        own, spread = (row["metrics"][key]["value"] for key in (score, diversity))
        lack = abs(1 - spread) if diversity == "layout_diversity" else -spread
        return own if lower else -own, lack, row["seconds"]

    points = {
        row["number"]: point(row) for row in rows
        if row["state"] == "complete" and row["metrics"][diversity]["value"] is not None
    }  # fmt: skip
    return [
        number for number, own in points.items()
        if not any(other != own and all(x <= y for x, y in zip(other, own, strict=True))
                   for other in points.values())
    ]  # fmt: skip


def diff(sweep: Sweep, trials: Sequence[Trial], winner: int) -> list[dict[str, str]]:
    """The fields in which the winner is not the recipe."""
    base = sweep.plan.base
    change = next((t.change for t in trials if t.number == winner), {})
    old, new = (flat(to_dict(e)) for e in (base, changed(base, change)))
    return [
        {"key": key, "recipe": str(old.get(key)), "winner": str(new.get(key))}
        for key in {**old, **new} if old.get(key) != new.get(key)
    ]  # fmt: skip
