"""How a tuned student is judged: on its concept, and on everything else.

Novel prompts of the concept and test prompts of the world, the same noise for all models; at the
student's own steps by its own sampler ("few"), and at 30 steps by Euler ("many"). Figures of the
test prompts are also told minus those of the student before training.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from benchmarks import common
from benchmarks.common import Roots
from benchmarks.dopsd_concepts import Taught, novel, pictures
from benchmarks.dopsd_plan import Task
from benchmarks.dopsd_verdicts import verdicts
from benchmarks.sda_judge import check_config
from benchmarks.study_judge import Result, training_minutes

from fewstep.data.cache import alone
from fewstep.evaluate import diversity
from fewstep.evaluate.generate import GenerationSpec, generate, picture_hash
from fewstep.evaluate.measures import Measures
from fewstep.evaluate.metrics import draws
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import load_family
from fewstep.families.zimage import ZImage
from fewstep.flow.sample import SamplerName
from fewstep.hashing import text_hash
from fewstep.runs import read_metrics
from fewstep.shapes import Pixels
from fewstep.worlds.shapes import judge as judges
from fewstep.worlds.shapes.world import Shapes

MANY = 30
"""Steps at which SFT is said to gain what it loses at few."""
SHARES = ("success", "right", "asked", "copied")
OLD = ("kid", "adherence", "layout_diversity", "vendi", "sharpness")
"""Told of the test prompts, and minus the student's: NAME_change."""
View = Literal["few", "many"]
VIEWS: tuple[View, ...] = ("few", "many")
Told = Literal["concept", "words"]
"""A prompt with the word for the concept, or with the words that come nearest to it."""


@dataclass(frozen=True)
class Way:
    """How pictures are drawn."""

    sigmas: tuple[float, ...]
    sampler: SamplerName


class Judge:
    """Draws and measures models on the study's prompts. `base.model` is the student."""

    def __init__(self, args: argparse.Namespace, base: Experiment) -> None:
        self.args, self.base = args, base
        self.where: Roots = common.roots(args)
        self.world = Shapes()
        self.device = common.few_threads(args.threads)
        self.student = self.load(base.model)
        self.runs = self.where.work / "dopsd" / self.student.fingerprint()[:8]
        """Runs of one student: trained anew it keeps its name, not its weights."""
        self.old = tuple(dict.fromkeys(self.world.prompts("test", args.prompts)))
        self.seeds = tuple(range(args.seeds))
        self.views: tuple[View, ...] = ("few",) if args.few else VIEWS
        self.ways: Mapping[View, Way] = {
            "few": Way(self.student.sigmas(base.sampling.steps), self.student.sampler),
            "many": Way(self.student.sigmas(MANY), "euler"),
        }

    def load(self, model: str) -> ZImage:
        return load_family(model, self.device, self.base.dtype, self.base.engine)

    def spec(self, family: ZImage, view: View, prompts: tuple[str, ...]) -> GenerationSpec:
        way = self.ways[view]
        return GenerationSpec(
            model=view, fingerprint=family.fingerprint(), prompts=prompts, seeds=self.seeds,
            sigmas=way.sigmas, sampler=way.sampler, height=self.world.cfg.side,
            width=self.world.cfg.side,
        )  # fmt: skip

    def texts(self, one: Taught) -> list[str]:
        """The novel prompts of a concept, in the grammar of the world."""
        return novel(self.world, one, self.args.novel)

    def concept(
        self, one: Taught, family: ZImage, view: View = "few", told: Told = "concept",
        how: str = "",
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """Verdicts on all novel prompts x seeds, all seeds of the first prompt first; `how` says
        what weights do not."""
        prompts = tuple(
            one.said(text) if told == "concept" else one.in_words(text) for text in self.texts(one)
        )
        spec = self.spec(family, view, prompts)

        def draw() -> Pixels:
            return generate(family, family.backbone, spec, batch_size=self.args.batch)

        return self.judged(one, {**spec.to_json(), "model": how, "told": told}, draw)

    def in_context(self, one: Taught, family: ZImage) -> dict[str, np.ndarray]:
        """The same of a model that reads each prompt beside a training picture: seed j beside
        picture j, from the start again where there are more seeds."""
        shown = pictures(self.world, one)
        spec = self.spec(family, "few", tuple(map(one.said, self.texts(one))))
        keys = {**spec.to_json(), "model": "", "shown": picture_hash(shown)}

        def draw() -> Pixels:
            columns: list[Pixels] = []
            for seed in self.seeds:
                beside = shown[[seed % len(shown)] * len(spec.prompts)]
                own = replace(spec, seeds=(seed,), context=picture_hash(beside))
                columns.append(
                    generate(family, family.backbone, own, batch_size=self.args.batch,
                             context=beside)
                )  # fmt: skip
            return torch.stack(columns, 1).flatten(0, 1)

        return self.judged(one, keys, draw)

    def judged(
        self, one: Taught, keys: Mapping[str, Any], draw: Callable[[], Pixels]
    ) -> dict[str, np.ndarray]:
        """Kept verdicts on pictures of the novel prompts."""
        texts = [text for text in self.texts(one) for _ in self.seeds]
        key = {**keys, "taught": repr(one), "engine": self.base.engine, "world": self.rules,
               "copied": judges.COPIED}  # fmt: skip
        return common.kept(
            self.where.measured, key, lambda: verdicts(self.world, one, draw(), texts)
        )

    @property
    def rules(self) -> str:
        return common.rules(self.world)

    def concept_values(self, one: Taught, found: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Means over pictures; "concept_layouts" is how much layouts differ between the seeds of a
        prompt, over how much they do in the student's pictures of the same prompts in words."""
        n = self.args.novel
        words = self.concept(one, self.student, told="words")
        ratio = diversity.ratio(spread(found, n), spread(words, n), np.ones((1, n)))
        shares = {name: float(found[name].mean()) for name in SHARES}
        return {**shares, "concept_layouts": float(ratio[0])}

    def measures(self, family: ZImage, view: View, how: str = "") -> Measures:
        """Of the test prompts; `how` as in `concept`."""
        return common.drawn(
            self.where.measured, family, self.spec(family, view, self.old), self.world,
            engine=self.base.engine + how, batch=self.args.batch,
        ).measures  # fmt: skip

    def old_values(self, family: ZImage, view: View) -> dict[str, float]:
        """Figures of the test prompts, and minus the student's."""
        own, before = (self.point(self.measures(f, view)) for f in (family, self.student))
        return {**own, **{f"{name}_change": own[name] - before[name] for name in own}}

    def point(self, own: Measures) -> dict[str, float]:
        truth = common.true_pictures(self.where.measured, self.world, self.old, self.seeds)
        found = draws(own, truth, np.ones((1, len(self.old))))
        return {name: float(found[name][0]) for name in OLD}

    def prepare(self, task: Task) -> None:
        """What all runs of a concept are held against; whichever process comes first draws it."""
        with alone(self.where.measured):
            for view in self.views:
                self.old_values(self.student, view)
            self.concept(task.taught, self.student, told="words")

    def facts(self) -> dict[str, Any]:
        """What decides a result besides the weights."""
        return {
            "split": "test", "prompts": len(self.old), "novel": self.args.novel,
            "seeds": list(self.seeds), "many": MANY if "many" in self.views else None,
            "engine": self.base.engine,
            "world": self.rules,
        }  # fmt: skip

    def result_path(self, task: Task) -> Path:
        """Beside the weights that it is of, so that it goes where they go."""
        return task.directory(self.runs) / f"result-{text_hash(json.dumps(self.facts()))}.json"

    def finished(self, task: Task) -> Path | None:
        """The task's result, if there is one; UserError where another configuration has made it."""
        path = self.result_path(task)
        if not path.exists():
            return None
        check_config(path.parent, task.experiment(self.runs))
        return path

    def judge(self, task: Task) -> Result:
        """What a finished run does; of a second concept also what is left of the first."""
        self.prepare(task)
        directory = task.directory(self.runs)
        rows = read_metrics(directory)
        family = self.load(str(directory / "model"))
        views: dict[str, dict[str, float]] = {}
        for view in self.views:
            of_concept = self.concept(task.taught, family, view)
            views[view] = self.concept_values(task.taught, of_concept)
            views[view] |= self.old_values(family, view)
        if task.first is not None:
            one = task.first.taught
            views["first"] = self.concept_values(one, self.concept(one, family))
        loop = [row for row in rows if row["phase"] == "loop"]
        views["cost"] = {"cpu_seconds": float(np.mean([r["cpu_seconds_per_step"] for r in loop]))}
        return Result(task.name, task.seed, training_minutes(rows), views)


def spread(found: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    """(n,): how far the layouts of each prompt's seeds lie apart."""
    layouts = found["layouts"]
    return diversity.pairwise(layouts, np.repeat(np.arange(n), len(layouts) // n), n)
