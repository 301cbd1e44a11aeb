"""Stages 2 and 3 of the Shapes teacher: a vision tower that sees, then flow matching of all parts.

Stage 2 teaches the vision tower and the language model to keep what is in a picture: a tower that
starts blind learns little from the flow. The same loss, at a small weight, goes on in stage 3.
Stage 3 trains transformer, text encoder and vision tower together on ||v_theta - (eps - x0)||^2,
with the plan of `aids.py` at a weight that falls to zero with the learning rates: Muon for the
transformer's matrices, AdamW for the rest, a constant rate with a long linear end, EMA.
It goes from the harder levels of the world to the one that is shipped.
Running the same command again resumes from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from fewstep.families.base import Cond
from fewstep.families.pictures import PictureReader
from fewstep.families.text import read
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import FusedZImage, product_dtype
from fewstep.flow import path
from fewstep.recipes.shapes_teacher.aids import Plan, Sight
from fewstep.recipes.shapes_teacher.data import TeacherBatches, TeacherData, concept_scene
from fewstep.recipes.shapes_teacher.parts import new_model
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import CROWDED, PAIRS, draw_concept

STATE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    data: TeacherData = field(default_factory=TeacherData)
    sight_steps: int = 1000
    sight_weight: float = 0.3
    """Of the description loss beside the flow loss in stage 3."""
    plan_layer: int = 3
    plan_weight: float = 0.5
    """Of the plan loss beside the flow loss; it falls with the learning rates."""
    steps: int = 17000
    cooldown: int = 13000
    """The last steps, over which the learning rates fall linearly to zero."""
    matrix_lr: float = 1.8e-3
    vector_lr: float = 1e-3
    reader_matrix_lr: float = 1.2e-3
    reader_vector_lr: float = 7e-4
    ema: float = 0.999
    sigma_mean: float = 0.9
    sigma_std: float = 1.1
    save_every: int = 500
    seed: int = 0


STAGES: dict[str, FlowConfig] = {
    "crowded": FlowConfig(data=TeacherData(world=CROWDED)),
    "pairs": FlowConfig(
        data=TeacherData(world=PAIRS, seed=1), steps=7000, cooldown=6700, matrix_lr=1.2e-3,
        vector_lr=7e-4, reader_matrix_lr=8e-4, reader_vector_lr=5e-4, seed=1,
    ),
    "shipped": FlowConfig(
        data=TeacherData(seed=2), steps=4400, cooldown=4100, matrix_lr=1e-3,
        vector_lr=6e-4, reader_matrix_lr=7e-4, reader_vector_lr=4e-4, seed=2,
    ),
}  # fmt: skip
"""Stage 3, from harder levels to the one that is shipped, each from the weights of the last."""


def see(reader: PictureReader, sight: Sight, cfg: FlowConfig) -> None:
    """Stage 2."""
    modules: dict[str, nn.Module] = {
        "text_encoder": reader.model.language_model, "visual": reader.model.visual, "sight": sight
    }  # fmt: skip
    optims = optimizers(modules, cfg)
    for step in range(cfg.sight_steps):
        rng = np.random.default_rng((cfg.seed, 1, step))
        looks = [draw_concept(rng) for _ in range(32)]
        scenes = [concept_scene(cfg.data.world, look, rng) for look in looks]
        images = torch.from_numpy(render(scenes, cfg.data.world.side))
        loss = sight.loss(reader.encode(["a [V]"] * len(looks), images), images, looks)
        for optim in optims:
            optim.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for m in modules.values() for p in m.parameters()], 1.0)
        for optim in optims:
            optim.step()
        if step % 100 == 0:
            print(f"sight {step}/{cfg.sight_steps}  loss {loss.item():.3f}", flush=True)


def rate(step: int, cfg: FlowConfig) -> float:
    return min(1.0, (step + 1) / 300, (cfg.steps - step) / cfg.cooldown)


def optimizers(modules: dict[str, nn.Module], cfg: FlowConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside transformer blocks, AdamW for everything else."""
    inside = re.compile(r"(layers|noise_refiner|context_refiner|blocks)\.\d+\.")
    matrices: dict[str, list[nn.Parameter]] = {"transformer": [], "readers": []}
    rest: dict[str, list[nn.Parameter]] = {"transformer": [], "readers": []}
    for part, module in modules.items():
        group = "transformer" if part == "transformer" else "readers"
        for name, p in module.named_parameters():
            (matrices if inside.match(name) and p.ndim == 2 else rest)[group].append(p)
    rates = {
        "transformer": (cfg.matrix_lr, cfg.vector_lr),
        "readers": (cfg.reader_matrix_lr, cfg.reader_vector_lr),
    }
    muon = [{"params": p, "lr": rates[g][0]} for g, p in matrices.items() if p]
    adam = [{"params": p, "lr": rates[g][1]} for g, p in rest.items() if p]
    return [
        torch.optim.Muon(muon, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adam, weight_decay=0.01, betas=(0.9, 0.99)),
    ]


def save(file: Path, state: dict[str, object]) -> None:
    temp = file.with_suffix(".tmp")
    torch.save(state, temp)
    os.replace(temp, file)


def load_modules(modules: dict[str, nn.Module], saved: dict[str, dict[str, Tensor]]) -> None:
    for name, module in modules.items():
        module.load_state_dict(saved[name])


def weights(modules: dict[str, nn.Module]) -> list[Tensor]:
    return [p.detach() for m in modules.values() for p in m.parameters()]


def export(
    family: ZImage, modules: dict[str, nn.Module], values: Iterable[Tensor], out: Path
) -> None:
    """Write the model with `values` (the EMA) in place of the current weights."""
    current = weights(modules)
    kept = [p.clone() for p in current]
    torch._foreach_copy_(current, list(values))
    family.save(out, family.backbone)
    torch._foreach_copy_(current, kept)


def train_flow(
    vae_dir: Path, out: Path, cfg: FlowConfig, start: Path | None = None, compiled: bool = True
) -> None:
    """Stages 2 and 3; with the weights of another run's state `start`, stage 3 alone."""
    out.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(vae_dir).eval().requires_grad_(False)
    pipeline, reader = new_model(vae, cfg.seed)
    modules: dict[str, nn.Module] = {
        "transformer": pipeline.transformer,
        "text_encoder": pipeline.text_encoder,
        "visual": reader.model.visual,
    }
    sight, plan = Sight(), Plan()
    modules_saved = {**modules, "sight": sight, "plan": plan}
    state_file, first = out / STATE, 0
    if start is not None:
        load_modules(modules_saved, torch.load(start, weights_only=True)["modules"])
    elif not state_file.exists():
        see(reader, sight, cfg)
    family = ZImage(pipeline, reader)
    for module in modules.values():
        module.requires_grad_(True)
    optims = optimizers(modules_saved, cfg)
    base = [[group["lr"] for group in optim.param_groups] for optim in optims]
    ema = [p.clone() for p in weights(modules)]
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        first = int(state["step"])
        load_modules(modules_saved, state["modules"])
        for optim, saved in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        torch._foreach_copy_(ema, state["ema"])
        print(f"resumed at step {first}", flush=True)
    low = product_dtype(torch.device("cpu"))
    fused = FusedZImage(pipeline.transformer, low, compiled=compiled)
    batches = TeacherBatches(cfg.data, vae, cfg.steps)
    loader = DataLoader(
        batches, batch_size=None, num_workers=1, prefetch_factor=16,
        sampler=range(first, cfg.steps), worker_init_fn=lambda _: torch.set_num_threads(1),
    )  # fmt: skip
    began, means = time.time(), dict.fromkeys(("loss", "plan", "sight"), 0.0)
    for step, batch in enumerate(loader, first):
        for optim, rates in zip(optims, base, strict=True):
            for group, lr in zip(optim.param_groups, rates, strict=True):
                group["lr"] = lr * rate(step, cfg)
        draws = torch.Generator().manual_seed(cfg.seed * 1_000_003 + step)
        plain = len(batch.prompts) - len(batch.references)
        seen = reader.encode(batch.prompts[plain:], batch.references)
        cond = Cond.cat(
            [read(pipeline.text_encoder, pipeline.tokenizer, batch.prompts[:plain]), seen]
        )
        sigma = torch.sigmoid(
            cfg.sigma_mean + cfg.sigma_std * torch.randn(len(batch.x0), generator=draws)
        )
        eps = torch.randn(batch.x0.shape, generator=draws)
        x = path.interpolate(batch.x0, eps, sigma)
        v, (tokens,) = fused.tapped(x, sigma, cond, (cfg.plan_layer,))
        loss = F.mse_loss(v, path.velocity(batch.x0, eps))
        planned = plan.loss(tokens, batch.plans)
        described = sight.loss(seen, batch.references, batch.looks)
        for optim in optims:
            optim.zero_grad()
        aids = cfg.sight_weight * described + cfg.plan_weight * rate(step, cfg) * planned
        (loss + aids).backward()
        nn.utils.clip_grad_norm_([p for m in modules.values() for p in m.parameters()], 1.0)
        for optim in optims:
            optim.step()
        torch._foreach_lerp_(ema, weights(modules), 1 - min(cfg.ema, (step + 1) / (step + 10)))
        for name, value in zip(means, (loss, planned, described), strict=True):
            old = value.item() if step == first else means[name]
            means[name] = 0.99 * old + 0.01 * value.item()
        if step % 50 == 0:
            pace = (time.time() - began) / (step + 1 - first)
            row = {
                "step": step, **{name: round(mean, 5) for name, mean in means.items()},
                "s_per_step": round(pace, 3), "eta_min": round(pace * (cfg.steps - step) / 60),
            }  # fmt: skip
            print(json.dumps(row), flush=True)
        if (step + 1) % cfg.save_every == 0 or step + 1 == cfg.steps:
            save(state_file, {
                "step": step + 1, "ema": ema,
                "modules": {name: module.state_dict() for name, module in modules_saved.items()},
                "optims": [optim.state_dict() for optim in optims],
            })  # fmt: skip
        if (step + 1) % 2000 == 0 or step + 1 == cfg.steps:
            export(family, modules, ema, out / f"model-{step + 1}")
