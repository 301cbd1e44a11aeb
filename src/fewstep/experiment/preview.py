"""The pictures that a run draws on its way, for whoever looks at it."""

from __future__ import annotations

from pathlib import Path

from fewstep.evaluate.generate import GenerationSpec, generate
from fewstep.experiment.config import Experiment
from fewstep.experiment.prompts import preview_prompts
from fewstep.experiment.strips import write_strip
from fewstep.families.base import Backbone, Family
from fewstep.methods.base import Method
from fewstep.shapes import Pixels
from fewstep.worlds.base import World


class Preview:
    """Pictures of fixed prompts and seeds as the exported model would draw them: a strip a call."""

    def __init__(
        self, experiment: Experiment, family: Family, world: World | None, method: Method,
        folder: Path,
    ) -> None:  # fmt: skip
        self.family, self.method, self.folder = family, method, folder
        cfg, (height, width) = experiment.sampling, experiment.data.size()
        prompts = preview_prompts(experiment, world)
        self.spec = GenerationSpec(
            model="student", fingerprint="", prompts=tuple(dict.fromkeys(prompts)),
            seeds=(cfg.seed,), sigmas=family.sigmas(cfg.steps), sampler=cfg.sampler,
            height=height, width=width,
        )  # fmt: skip

    def __call__(self, step: int) -> None:
        write_strip(self.folder / f"step_{step:06d}.png", self.drawn())

    def follow(self, step: int) -> None:
        """What the first process draws of sharded weights takes all of them; it alone writes."""
        self.drawn()

    def drawn(self) -> Pixels:
        backbone = self.method.exported()
        assert isinstance(backbone, Backbone)
        return generate(self.family, backbone, self.spec)
