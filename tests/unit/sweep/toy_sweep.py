"""A sweep whose truth is known: "training" takes no time, and the score of a run is a function of
its learning rate, its training seed and the prompt. Everything else is the real thing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.cache import alone
from fewstep.evaluate.statistics import mean, prompt_weights
from fewstep.experiment.config import Experiment
from fewstep.recipes import RECIPES
from fewstep.rng import seed_of
from fewstep.sweep.plan import Plan
from fewstep.sweep.runner import Means
from fewstep.sweep.space import read_space
from fewstep.sweep.store import Sweep, open_sweep

PROMPTS = 16
BEST = 1e-3
"""The learning rate with a KID of 0; the recipe's is 1e-4, which gives 1."""
VARY = ("optim.student.lr=1e-5..1e-1:log", "method.loss=hinge,softplus")


def plan_of(vary: tuple[str, ...] = VARY, **more: Any) -> Plan:
    base = RECIPES["ladd_shapes_demo"]()
    given = {"trials": 5, "seeds": 2, "top": 2, "fresh": 3, "prompts": PROMPTS} | more
    return Plan(recipe="toy", base=base, space=read_space(vary, base), **given)


def opened(directory: Path, plan: Plan | None = None) -> Sweep:
    with alone(directory):
        return open_sweep(directory, plan or plan_of())


def kid(experiment: Experiment) -> float:
    return abs(float(np.log10(experiment.optim.student.lr / BEST)))


def see(experiment: Experiment, run: Path) -> Mapping[str, np.ndarray]:
    """Prompts differ by as much as a whole KID, which pairing takes out; runs by a little."""
    lr, seed = f"{experiment.optim.student.lr:.6g}", experiment.seed
    own = np.random.default_rng(seed_of("toy", lr, experiment.method.name, seed))
    common = np.random.default_rng(0).normal(0, 1, PROMPTS)
    values = kid(experiment) + common + 0.02 * own.normal(size=PROMPTS) + 0.02 * own.normal()
    index, weights = np.arange(PROMPTS), prompt_weights(PROMPTS, np.random.default_rng(1), 200)
    draws = mean(values, index, weights)
    return {"kid": draws, "layout_diversity": np.full_like(draws, 0.9), "adherence": 0 * draws}


@dataclass(frozen=True)
class Log:
    """Of runs, one line for each beginning and end, from any number of processes."""

    path: Path
    seconds: float = 0.0
    """That a run takes."""

    def train(self, experiment: Experiment, run: Path) -> bool:
        self.say(f"begin {run.parent.name} {experiment.seed}")
        time.sleep(self.seconds)
        self.say(f"end {run.parent.name} {experiment.seed}")
        return True

    def say(self, text: str) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, f"{text}\n".encode())
        os.close(file)

    def lines(self, word: str) -> list[str]:
        if not self.path.exists():
            return []
        found = self.path.read_text().splitlines()
        return [line.removeprefix(word).strip() for line in found if line.startswith(word)]

    def means(self, **more: Callable[..., Any]) -> Means:
        return replace(Means(train=self.train, see=see, say=lambda _: None), **more)


def nothing() -> None:
    """After a trial."""


def same(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What must not depend on who ran it and when."""
    return {key: own for key, own in facts.items() if key not in ("environment", "command")}
