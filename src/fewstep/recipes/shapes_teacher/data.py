"""What the Shapes teacher is shown: true pictures with prompts, a part of them with a reference.

A row is one of: a prompt and a true picture of it; the same with another true picture of the
prompt as reference in context; a prompt about "[V]" with a picture of it, and as reference the same
concept in another layout. Some rows lose their prompt, for guidance.
"""

# pyright: reportAttributeAccessIssue=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.utils.data import Dataset

from fewstep.recipes.shapes_teacher.aids import plans
from fewstep.worlds.shapes.prompts import (
    CONCEPT,
    Role,
    Spec,
    draw_concept_spec,
    draw_in_split,
    say,
    scene_for,
)
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import Look, Scene, WorldConfig, draw_concept


@dataclass(frozen=True, kw_only=True)
class TeacherData:
    world: WorldConfig = field(default_factory=WorldConfig)
    plain: int = 24
    """Rows of a batch without a reference picture."""
    concepts: int = 5
    """Rows about a concept, with a reference picture of it."""
    shown: int = 3
    """Rows of ordinary prompts with a reference picture of the same prompt."""
    drop_text: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class TeacherBatch:
    """Rows without a reference first; `references` belongs to the last rows."""

    x0: torch.Tensor
    prompts: list[str]
    plans: torch.Tensor
    """(b, n, PLAN): what each image token shows."""
    references: torch.Tensor
    looks: list[Look]
    """The concepts, in the order of their references, which come first among the references."""


def concept_scene(cfg: WorldConfig, look: Look, rng: np.random.Generator) -> Scene:
    """The concept alone, anywhere, on any background: what a reference picture shows."""
    return scene_for(cfg, Spec((Role(CONCEPT),)), rng, look)


class TeacherBatches(Dataset[TeacherBatch]):
    """Batch i is a function of (seed, i) alone, so a resumed run sees what it would have seen."""

    def __init__(self, cfg: TeacherData, vae: AutoencoderKL, steps: int) -> None:
        self.cfg, self.vae, self.steps = cfg, vae, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> TeacherBatch:
        cfg = self.cfg
        rng = np.random.default_rng((cfg.seed, step))
        scenes: list[Scene] = []
        references: list[Scene] = []
        prompts: list[str] = []
        looks: list[Look] = []
        for row in range(cfg.plain + cfg.concepts + cfg.shown):
            if cfg.plain <= row < cfg.plain + cfg.concepts:
                spec, look = draw_concept_spec(cfg.world, rng), draw_concept(rng)
                looks.append(look)
                scenes.append(scene_for(cfg.world, spec, rng, look))
                references.append(concept_scene(cfg.world, look, rng))
            else:
                spec = draw_in_split(cfg.world, "train", rng)
                scenes.append(scene_for(cfg.world, spec, rng))
                if row >= cfg.plain:
                    references.append(scene_for(cfg.world, spec, rng))
            prompts.append("" if rng.random() < cfg.drop_text else say(spec, rng))
        images = torch.from_numpy(render(scenes, cfg.world.side))
        with torch.no_grad():
            z = self.vae.encode(images * 2 - 1).latent_dist.mode()
        x0 = (z - self.vae.config.shift_factor) * self.vae.config.scaling_factor
        seen = torch.from_numpy(render(references, cfg.world.side))
        return TeacherBatch(x0, prompts, plans(scenes, x0.shape[-1] // 2), seen, looks)
