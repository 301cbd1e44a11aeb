"""What a sweep might have found, as its sweep.json has it."""

from __future__ import annotations

from typing import Any

from fewstep.evaluate.catalogue import metric

KEYS = ("kid", "layout_diversity", "adherence")


def number(value: float | None, half: float = 0.01, runs: int = 2) -> dict[str, Any]:
    bounds = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "low": bounds[0], "high": bounds[1], "n_prompts": 64, "n_seeds": 2,
            "n_runs": runs}  # fmt: skip


def trial(
    n: int, state: str = "complete", *, kid: float = 0.1, diversity: float | None = 0.8,
    seconds: float = 40.0, change: dict[str, Any] | None = None, why: str = "",
) -> dict[str, Any]:  # fmt: skip
    seeds = {"complete": [0, 1], "pruned": [0]}.get(state, [])
    found = {"kid": number(kid), "layout_diversity": number(diversity),
             "adherence": number(0.5)}  # fmt: skip
    return {
        "number": n, "state": state, "why": why, "kept": None, "change": change or {},
        "values": {"optim.student.lr": 1e-4, "method.loss": "hinge"} | (change or {}),
        "seeds": seeds, "metrics": found if seeds else {}, "seconds": seconds if seeds else None,
        "gain": number(kid - 0.1) if seeds and n else None,
        "better": state == "complete" and kid + 0.01 < 0.1,
    }  # fmt: skip


def facts(*, over: bool = True, trials: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A recipe with six trials, of which trial 2 has won."""
    if trials is None:
        losses = ("hinge", "softplus")
        trials = [trial(0)] + [
            trial(n, kid=kid, diversity=diversity, seconds=30 + 5 * n, change={
                "optim.student.lr": 10.0 ** -(5 - n / 2), "method.loss": losses[n % 2]})
            for n, kid, diversity in ((1, 0.12, 0.7), (2, 0.05, 0.85), (3, 0.09, 0.95),
                                      (4, 0.3, 0.99))
        ]  # fmt: skip
        change = {"optim.student.lr": 1e-3, "method.loss": "hinge"}
        trials += [
            trial(5, "pruned", kid=0.4, change=change, why="worse than trial 2 <by> 0.3 & more"),
            trial(6, "failed", change=change, why="12 steps in a row were not finite"),
        ]
    complete = [t for t in trials if t["state"] == "complete"]
    ranking = [t["number"] for t in sorted(complete, key=lambda t: t["metrics"]["kid"]["value"])]
    winner = ranking[0] if ranking else 0
    fresh = [
        {"number": n, "seeds": [2, 3, 4, 5, 6], "holds": n == winner, "why": "",
         "sweep": number(0.05), "afresh": number(0.07, runs=5), "curse": number(-0.02, runs=7),
         "gain": number(-0.03, runs=5) if n else None}
        for n in (0, *[n for n in ranking if n][:2])
    ]  # fmt: skip
    return {
        "schema": 1, "recipe": "ladd_shapes", "command": "fewstep sweep ladd_shapes --vary ...",
        "by": "tpe", "score": "kid", "better": "lower", "diversity": "layout_diversity",
        "metrics": {key: metric(key).to_json() for key in KEYS},
        "space": {"optim.student.lr": "1e-05..0.01:log", "method.loss": "hinge,softplus"},
        "runs": {"planned": 33, "done": 30}, "over": over, "trials": trials, "ranking": ranking,
        "front": ranking[:2], "importance": {"optim.student.lr": 0.8, "method.loss": 0.2},
        "fresh": fresh if over else [], "winner": winner,
        "verdict": f"Trial {winner} is better than the recipe on 5 new training seeds: KID -0.03.",
        "diff": [{"key": "optim.student.lr", "recipe": "0.0001", "winner": "0.001"}],
        "environment": {"versions": {"torch": "2"}, "cpu": "a processor"},
    }  # fmt: skip
