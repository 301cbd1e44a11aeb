"""LADD with the time and sign convention of a public Z-Image LADD code: a test, not an option.

A Z-Image transformer wants the time 1 - sigma and returns x0 - eps, which is -v. That code hands it
sigma itself as time and takes what comes back for v, in the student and in the teacher's features;
then it samples its student in the right convention. Training here does the same and nothing else
differs: `fewstep train` runs on `build_wrong`, which puts the backbones that `build` made behind
`WrongConvention`.
The teacher samples were drawn before that, and the exported student is an ordinary model directory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from fewstep.data.told import Told, quiet
from fewstep.experiment.builder import Built, build, make_method, make_optims
from fewstep.experiment.config import Experiment
from fewstep.experiment.preview import Preview
from fewstep.families.base import Backbone, Cond
from fewstep.methods.base import AnyPhase, Method
from fewstep.shapes import Latent, Sigma, Tokens
from fewstep.train.loop import every

PREFIX = "right."
"""What `WrongConvention` puts before the names of the weights."""


class WrongConvention(Backbone):
    """A Z-Image backbone with neither flip: the time is sigma, and x0 - eps passes for v."""

    def __init__(self, right: Backbone) -> None:
        super().__init__()
        self.right = right
        self.depth, self.width, self.cond_width = right.depth, right.width, right.cond_width

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        return -self.right(x, 1 - sigma, cond)

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        return self.right.features(x, 1 - sigma, cond, layers)

    def token_grid(self, x: Latent) -> tuple[int, int]:
        return self.right.token_grid(x)


class Unwrapped:
    """A method whose student is wrong in training, and right once it is exported."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.modules: Mapping[str, nn.Module] = method.modules

    def phases(self, step: int) -> Iterator[AnyPhase]:
        return self.method.phases(step)

    def exported(self) -> nn.Module:
        wrong = self.method.exported()
        assert isinstance(wrong, WrongConvention)
        return wrong.right


def build_wrong(experiment: Experiment, run_dir: Path, told: Told = quiet) -> Built:
    """`build`, with teacher and student in the wrong convention."""
    built = build(experiment, run_dir, told)
    family = copy.copy(built.family)
    family.backbone = WrongConvention(family.backbone)
    wrong = make_method(experiment, family, family, built.device)
    method = Unwrapped(wrong)
    preview = Preview(experiment, built.family, built.world, method, run_dir / "samples")
    return replace(
        built, method=method, optims=make_optims(experiment, wrong),
        hooks=[every(experiment.sampling.every, preview, at_start=True)], watch=None,
    )  # fmt: skip
