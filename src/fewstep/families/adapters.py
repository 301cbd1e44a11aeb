"""Adapter files (LoRA, LoKr, of any trainer that `adapter_formats` knows) on a loaded pipeline, and
their strength: one number, or one for each step."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from fewstep.errors import UserError
from fewstep.families.adapter_files import file_tensors
from fewstep.families.adapter_formats import read
from fewstep.families.adapter_state import linear_layers
from fewstep.families.base import Backbone, Cond
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.flow.sigmas import check_grid
from fewstep.flow.variety import by_level
from fewstep.shapes import Latent, Sigma

NAME = "adapter"


@dataclass(frozen=True)
class Gate:
    """A strength for each step of a sampler (docs/gate.md)."""

    strengths: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.strengths) < 2:
            raise ValueError(
                f"a gate needs two or more strengths, got {len(self.strengths)}; one for all steps "
                "is no gate"
            )

    def __str__(self) -> str:
        return ",".join(map(written, self.strengths))


Strength = float | Gate


def number(word: str, text: str) -> float:
    """ValueError unless the word (of `text`) is a finite number."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"a strength is a finite number, or one for each step as in 1,1,0,0, got {text!r}"
        )
    return value


def written(strength: Strength) -> str:
    """The shortest text that `strength_of` reads back as this strength; 1, not 1.0."""
    return str(strength) if isinstance(strength, Gate) else repr(strength).removesuffix(".0")


def strength_of(text: str) -> Strength:
    """The strength that a word on the command line means; ValueError where it means none."""
    if "," not in text:
        return number(text, text)
    return Gate(tuple(number(word, text) for word in text.split(",")))


def recorded(strength: Strength) -> float | str:
    """What a record in JSON holds of it."""
    return str(strength) if isinstance(strength, Gate) else strength


def at_steps(strength: Strength, steps: int) -> tuple[float, ...]:
    """The strength at each of so many steps; UserError for a gate of another length."""
    if not isinstance(strength, Gate):
        return (strength,) * steps
    if len(strength.strengths) != steps:
        raise UserError(
            f"the strength {strength} has {len(strength.strengths)} numbers, but there are {steps} "
            "steps; give one number, or one for each step"
        )
    return strength.strengths


class Gated(Backbone):
    """Another tree at each step of a grid: trees[i] makes the step from sigmas[i].

    trees   one for each step, the same one as often as it is wanted
    sigmas  the grid that is sampled; at a level between two of its own the tree of the step that
            leads there
    """

    def __init__(self, trees: Sequence[Backbone], sigmas: Sequence[float]) -> None:
        super().__init__()
        self.floors = check_grid(sigmas)[1:]
        if len(trees) != len(self.floors):
            raise ValueError(f"a gate needs {len(self.floors)} trees, got {len(trees)}")
        self.sigmas = tuple(sigmas)
        self.trees = nn.ModuleList(trees)
        self.depth, self.width = trees[0].depth, trees[0].width
        self.cond_width = trees[0].cond_width

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        models = [partial(at_cond, tree, cond) for tree in self.trees]
        parts = list(zip(self.floors, models, strict=True))
        return by_level(parts[:-1], models[-1])(x, sigma)

    def damped(self, *, factor: float, block: int, above: float) -> Backbone:
        trees = [
            tree.damped(factor=factor, block=block, above=above)
            for tree in self.trees
            if isinstance(tree, Backbone)
        ]
        return Gated(trees, self.sigmas)

    def token_grid(self, x: Latent) -> tuple[int, int]:
        first = self.trees[0]
        assert isinstance(first, Backbone)
        return first.token_grid(x)


def at_cond(tree: nn.Module, cond: Cond, x: Latent, sigma: Sigma) -> Latent:
    return tree(x, sigma, cond)


def attach(family: ZImage, path: Path) -> int:
    """Load an adapter file and return the number of modules that it changes.

    UserError for a file that cannot be read, fits nothing or only in part, or does nothing. It
    reaches diffusers under the names of our own files, which diffusers takes whole.
    """
    pipeline: Any = family.pipeline
    state, facts = read(path, linear_layers(pipeline.transformer))
    pipeline.load_lora_weights(file_tensors(state, torch.float32), adapter_name=NAME)
    count = sum(isinstance(m, BaseTunerLayer) for m in pipeline.transformer.modules())
    if count != facts.modules:
        raise UserError(
            f"the adapter {path} changes {count} modules of this model, but has factors for "
            f"{facts.modules}"
        )
    return count


def scale(family: ZImage, strength: Strength) -> None:
    """Set how much of the attached adapter is added: 0 is the model without it.

    A gate makes `family.backbone` a `Gated` for a sampler of as many steps as it has strengths,
    over trees that share all weights.
    """
    transformer: Any = family.pipeline.transformer
    if not isinstance(strength, Gate):
        transformer.set_adapters([NAME], [strength])
        family.backbone = ZImageBackbone(transformer)
        return
    trees = {s: ZImageBackbone(twin(transformer, s)) for s in dict.fromkeys(strength.strengths)}
    steps = strength.strengths
    family.backbone = Gated([trees[s] for s in steps], family.sigmas(len(steps)))


def twin(transformer: Any, strength: float) -> Any:
    """A second tree over the same weights with the attached adapter at its own strength."""
    memo = {id(t): t for t in chain(transformer.parameters(), transformer.buffers())}
    tree = copy.deepcopy(transformer, memo)
    tree.set_adapters([NAME], [strength])
    return tree
