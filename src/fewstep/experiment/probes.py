"""What the watch over a run measures: pictures of fixed prompts, drawn as the exported model would
be, and how far weights have moved.

RUN/samples/health/step_000000.png  those before training, drawn once and read by a run that resumes
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from fewstep.data.batches import Batch
from fewstep.evaluate import collapse, diversity, quality, retention
from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.evaluate.gallery import eight_bit
from fewstep.evaluate.generate import GenerationSpec, generate
from fewstep.experiment.config import Experiment
from fewstep.experiment.instruments import extractor_of
from fewstep.experiment.prompts import watched_prompts
from fewstep.experiment.strips import read_strip, write_strip
from fewstep.families.base import Backbone, Family
from fewstep.methods.base import Method
from fewstep.nets.ema import Ema
from fewstep.nets.moved import distances
from fewstep.nets.packed import PackedLinear
from fewstep.runs import RunError
from fewstep.shapes import Latent, Pixels
from fewstep.worlds.base import World

LOOKS = {
    "detail": quality.high_frequency, "sharpness": quality.sharpness,
    "saturation": quality.saturation, "contrast": quality.contrast, "scale": quality.scale,
}  # fmt: skip
"""Means over pictures."""
DISTANCES = ("seeds", "prompts", "away")
Batches = Callable[[int], list[Batch]]


class Probes:
    """`train.watch.Probe` of an experiment; its pictures lie in `folder`.

    start  the model before training, frozen
    """

    def __init__(
        self, experiment: Experiment, family: Family, world: World | None, method: Method,
        start: Backbone, batches: Batches, folder: Path,
    ) -> None:  # fmt: skip
        self.experiment, self.family, self.method = experiment, family, method
        self.start, self.batches, self.folder = start, batches, folder
        self.cfg, sampling = experiment.watch, experiment.sampling
        height, width = experiment.data.size()
        self.spec = GenerationSpec(
            model="student", fingerprint="", prompts=tuple(watched_prompts(experiment, world)),
            seeds=tuple(range(sampling.seed, sampling.seed + self.cfg.seeds)),
            sigmas=family.sigmas(sampling.steps), sampler=sampling.sampler, height=height,
            width=width,
        )  # fmt: skip
        device = next(family.backbone.parameters()).device
        _, self.extract = extractor_of(None, world, device)
        self.last: Pixels | None = None

    def __call__(self, step: int) -> Mapping[str, float]:
        drawn = self.drawn()
        images = eight_bit(drawn)
        self.last = images
        if step == 0:
            write_strip(self.first, images)
        found = self.of_weights()
        if not drawn.isfinite().all():  # which a file would show as black
            return found | dict.fromkeys((*LOOKS, *DISTANCES), math.nan)
        return {**found, **looks_of(images), **self.of_features(images, self.before())}

    def follow(self, step: int) -> None:
        self.drawn()

    def beside(self) -> Mapping[str, float]:
        """Of teacher samples that are learnt from; a folder's pictures are of something else."""
        if self.experiment.data.source != "samples":
            return {}
        device = next(self.family.backbone.parameters()).device
        found: list[Latent] = []
        for step in range(self.spec.total):  # a step has one sample at the least
            if sum(map(len, found)) < self.spec.total:
                found += [batch.x0 for batch in self.batches(step)]
        x0 = torch.cat(found)[: self.spec.total]
        with torch.no_grad():
            images = [self.family.decode(b.to(device)) for b in x0.split(self.cfg.batch)]
        return looks_of(eight_bit(torch.cat([b.float().clamp(0, 1).cpu() for b in images])))

    def show(self, folder: Path) -> None:
        if self.last is not None:
            write_strip(folder / "pictures.png", self.last)
            write_strip(folder / "before.png", self.before())

    @property
    def first(self) -> Path:
        return self.folder / "step_000000.png"

    def before(self) -> Pixels:
        """Pictures before training; RunError where they are gone and one process cannot draw
        them."""
        if not self.first.is_file():
            if self.experiment.sharding.on:
                raise RunError(f"{self.first} is gone; bring it back")
            drawn = generate(self.family, self.start, self.spec, batch_size=self.cfg.batch)
            write_strip(self.first, eight_bit(drawn))
        return read_strip(self.first, self.spec.total)

    def drawn(self) -> Pixels:
        backbone = self.method.exported()
        assert isinstance(backbone, Backbone)
        return generate(self.family, backbone, self.spec, batch_size=self.cfg.batch)

    def of_weights(self) -> dict[str, float]:
        """Nothing where weights are divided among processes, or whole ones begin as packed ones."""
        packed = any(isinstance(module, PackedLinear) for module in self.start.modules())
        if self.experiment.sharding.on or (packed and self.experiment.adapter is None):
            return {}
        student, ema = (self.method.modules.get(name) for name in ("student", "ema"))
        assert student is not None  # what trains is saved
        average = student
        if isinstance(ema, Ema) and self.method.exported() is not student:
            average = ema.average
        moved, behind = distances(student, average, self.start)
        return {"moved": moved} if moved == 0 else {"moved": moved, "behind": behind}

    def of_features(self, images: Pixels, before: Pixels) -> dict[str, float]:
        """Distances between seeds, between prompts, and to the pictures before training; of fewer
        prompts than they need, they are left out."""
        prompts, seeds = len(self.spec.prompts), len(self.spec.seeds)
        if prompts < 2:
            return {}
        own, other = self.extract(images), self.extract(before)
        try:
            apart = collapse.prompt_distances(own.reshape(prompts, seeds, -1))
        except ValueError:  # features without a direction
            return dict.fromkeys(DISTANCES, math.nan)
        index = np.arange(len(own)) // seeds
        found = {
            "seeds": float(diversity.cosine_distance(own, index, prompts).mean()),
            "prompts": float(apart.same_seed.sum() / (prompts * (prompts - 1))),
        }
        if prompts >= MIN_PROMPTS:
            found["away"] = retention.shift(own, other, seeds)
        return found


def looks_of(images: Pixels) -> dict[str, float]:
    """NaN of what no picture has: a constant one shows nothing of any size."""
    found = {name: of(images) for name, of in LOOKS.items()}
    known = {name: values[np.isfinite(values)] for name, values in found.items()}
    return {name: float(own.mean()) if len(own) else math.nan for name, own in known.items()}
