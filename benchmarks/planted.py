"""Faults to be planted in a healthy pipeline, one at a time, and who must name each.

The bugs of the public LADD report are among them (grid off by one, a teacher without guidance, a
student that sees pure noise, a velocity taken for x0, noise as "real" samples), both flips of
Z-Image's convention, and what else has cost somebody days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.doctor.patient import Patient
from fewstep.experiment.builder import Built
from fewstep.experiment.config import Experiment
from fewstep.experiment.prompts import training_prompts
from fewstep.families import zimage
from fewstep.families.base import Cond
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.flow import guidance as flow_guidance
from fewstep.flow import path, sigmas
from fewstep.methods.base import Logs
from fewstep.methods.ladd import LADD
from fewstep.nets.adapters import Adapted
from fewstep.rng import Rng
from fewstep.train.adam import Adam

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, kw_only=True)
class Ill:
    """What takes the place of what was given."""

    experiment: Experiment | None = None
    built: Built | None = None
    against: Sequence[str] = ()
    """A benchmark."""


Plant = Callable[[Patch, Experiment, Built], Ill | None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    found_by: str
    """The check that must fail (or warn) first."""
    plant: Plant
    kind: str
    """The healthy pipeline that it is planted in: plain, adapter or recompute."""

    def patient(self, patch: Patch, experiment: Experiment, built: Built) -> Patient:
        ill = self.plant(patch, experiment, built) or Ill()
        return Patient(
            ill.experiment or experiment, ill.built or built, against=ill.against, prompts=2
        )


FAULTS: list[Fault] = []


def fault(found_by: str, *, kind: str = "plain") -> Callable[[Plant], Plant]:
    """Register a way to plant the fault that the function is named after. What it returns takes the
    place of what it was given; None where that was changed itself."""

    def take(plant: Plant) -> Plant:
        name = plant.__name__.replace("_", " ")
        FAULTS.append(Fault(name=name, found_by=found_by, plant=plant, kind=kind))
        return plant

    return take


@fault("grid")
def a_grid_of_one_step_less(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImage.sigmas
    patch.setattr(ZImage, "sigmas", lambda self, steps: right(self, steps - 1))


@fault("grid")
def a_shift_that_is_applied_twice(patch: Patch, _e: Experiment, _b: Built) -> None:
    def twice(self: ZImage, steps: int) -> tuple[float, ...]:
        by = self.pipeline.scheduler.config.shift
        return tuple(sigmas.shift(s, by) for s in sigmas.grid(steps, by))

    patch.setattr(ZImage, "sigmas", twice)


@fault("levels")
def training_at_levels_the_sampler_does_not_visit(
    _p: Patch, experiment: Experiment, built: Built
) -> Ill:
    method = replace(experiment.method, student_sigmas=(1.0, 0.75, 0.5, 0.25))
    return Ill(experiment=replace(experiment, method=method))


@fault("convention")
def sigma_given_as_the_time(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImageBackbone.forward
    patch.setattr(ZImageBackbone, "forward", lambda self, x, s, c: right(self, x, 1 - s, c))


@fault("convention")
def the_other_sign(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImageBackbone.forward
    patch.setattr(ZImageBackbone, "forward", lambda self, x, s, c: -right(self, x, s, c))


@fault("convention")
def the_other_time_and_sign(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImageBackbone.forward
    patch.setattr(ZImageBackbone, "forward", lambda self, x, s, c: -right(self, x, 1 - s, c))


@fault("convention")
def weights_that_were_not_loaded(_p: Patch, _e: Experiment, built: Built) -> None:
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in built.teacher.backbone.parameters():
            p.copy_(0.02 * torch.randn(p.shape, generator=draws))


@fault("convention")
def answers_that_are_not_finite(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImageBackbone.forward
    patch.setattr(ZImageBackbone, "forward", lambda *given: torch.nan * right(*given))


@fault("pipeline")
def the_pipelines_guidance_taken_for_w(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = flow_guidance.cfg
    patch.setattr(flow_guidance, "cfg", lambda cond, uncond, w: right(cond, uncond, w + 1))


@fault("guidance")
def a_teacher_without_guidance(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    data = experiment.data
    plain = replace(data, samples=replace(data.samples, guidance=1.0))
    return Ill(experiment=replace(experiment, data=plain))


def ladd_of(built: Built) -> LADD:
    assert isinstance(built.method, LADD)
    return built.method


def rescaled(built: Built, **config: float) -> None:
    built.teacher.pipeline.vae.register_to_config(**config)


@fault("autoencoder")
def half_of_the_latents_scale(_p: Patch, _e: Experiment, built: Built) -> None:
    rescaled(built, scaling_factor=built.teacher.pipeline.vae.config.scaling_factor / 2)


@fault("autoencoder")
def twice_the_latents_scale(_p: Patch, _e: Experiment, built: Built) -> None:
    rescaled(built, scaling_factor=built.teacher.pipeline.vae.config.scaling_factor * 2)


@fault("text")
def a_list_of_prompts_that_encoding_changes(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImage.encode_text

    def changing(self: ZImage, prompts: list[str], images: Tensor | None = None) -> Cond:
        found = right(self, prompts, images)
        for i, prompt in enumerate(prompts):
            prompts[i] = f"<|im_start|>user\n{prompt}<|im_end|>\n"
        return found

    patch.setattr(ZImage, "encode_text", changing)


@fault("text")
def prompts_without_the_template_of_a_chat(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = zimage.read

    def bare(encoder: Any, tokenizer: Any, prompts: Sequence[str], longest: int) -> Cond:
        full = right(encoder, tokenizer, prompts, longest)
        return Cond(tuple(t[2:] for t in full.tokens))

    patch.setattr(zimage, "read", bare)


def other_batches(built: Built, change: Callable[[Batch], Batch]) -> Built:
    right = built.batches
    return replace(built, batches=lambda step: [change(batch) for batch in right(step)])


@fault("samples")
def noise_as_real_samples(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    draws = torch.Generator().manual_seed(0)
    changed = other_batches(
        built, lambda b: replace(b, x0=torch.randn(b.x0.shape, generator=draws))
    )
    return Ill(built=changed)


@fault("samples")
def samples_of_half_the_scale(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    return Ill(built=other_batches(built, lambda b: replace(b, x0=b.x0 / 2)))


@fault("samples")
def channels_in_another_order(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    return Ill(built=other_batches(built, lambda b: replace(b, x0=b.x0.flip(1))))


@fault("captions")
def captions_that_are_swapped(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    def turned(batch: Batch) -> Batch:
        n = len(batch)
        return replace(batch, cond=batch.cond[[(i + n // 2) % n for i in range(n)]])

    return Ill(built=other_batches(built, turned))


@fault("micro-batches")
def micro_batches_of_one_for_a_hinge(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    right = built.batches

    def ones(step: int) -> list[Batch]:
        return [
            replace(b, ids=b.ids[i : i + 1], x0=b.x0[i : i + 1], cond=b.cond[[i]])
            for b in right(step) for i in range(len(b))
        ]  # fmt: skip

    return Ill(built=replace(built, batches=ones))


def seeing(patch: Patch, built: Built, see: Callable[[Batch, Rng, Tensor], Tensor]) -> None:
    """What the student sees at the level sigma that it is told."""
    method = ladd_of(built)

    def denoise(batch: Batch, rng: Rng, probs: tuple[float, ...]) -> Tensor:
        sigma = sigmas.choice(rng, method.cfg.student_sigmas, probs)
        x = see(batch, rng, sigma)
        return path.to_x0(x, method.student(x, sigma, batch.cond), sigma)

    patch.setattr(method, "denoise", denoise)


@fault("student input")
def a_student_that_sees_pure_noise(patch: Patch, _e: Experiment, built: Built) -> None:
    seeing(patch, built, lambda batch, rng, _: rng.randn_like(batch.x0))


@fault("student input")
def a_student_told_another_level_than_it_sees(patch: Patch, _e: Experiment, built: Built) -> None:
    def cleaner(batch: Batch, rng: Rng, sigma: Tensor) -> Tensor:
        level = (sigma - 0.25).clamp(min=0.05)
        return path.interpolate(batch.x0, rng.randn_like(batch.x0), level)

    seeing(patch, built, cleaner)


@fault("estimate")
def a_velocity_taken_for_x0(patch: Patch, _e: Experiment, built: Built) -> None:
    method = ladd_of(built)

    def denoise(batch: Batch, rng: Rng, probs: tuple[float, ...]) -> Tensor:
        sigma = sigmas.choice(rng, method.cfg.student_sigmas, probs)
        x = path.interpolate(batch.x0, rng.randn_like(batch.x0), sigma)
        return method.student(x, sigma, batch.cond)

    patch.setattr(method, "denoise", denoise)


@fault("judge")
def features_that_do_not_see_the_picture(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = ZImageBackbone.features

    def blind(self: ZImageBackbone, x: Tensor, *more: Any) -> list[Tensor]:
        return [f * 0 + 1 for f in right(self, x, *more)]

    patch.setattr(ZImageBackbone, "features", blind)


@fault("leaks")
def a_benchmark_among_the_prompts(_p: Patch, experiment: Experiment, built: Built) -> Ill:
    [*_, last] = training_prompts(experiment, built.world)
    return Ill(against=["two purple rings", last.upper() + "!"])


@fault("adapter", kind="adapter")
def an_adapter_of_strength_0(_p: Patch, _e: Experiment, built: Built) -> None:
    for module in built.method.modules["student"].modules():
        if isinstance(module, Adapted):
            module.strength = 0.0


@fault("gradients")
def a_block_that_is_left_out(patch: Patch, _e: Experiment, built: Built) -> None:
    student: Any = built.method.modules["student"]
    block = student.transformer.layers[2]
    patch.setattr(block, "forward", lambda x, *_a, **_k: x)


@fault("gradients")
def a_loss_that_is_not_finite(patch: Patch, _e: Experiment, _b: Built) -> None:
    right = LADD.student_loss

    def broken(self: LADD, batch: Batch, rng: Rng, **more: Any) -> tuple[Tensor, Logs]:
        loss, logs = right(self, batch, rng, **more)
        return loss * torch.inf, logs

    patch.setattr(LADD, "student_loss", broken)


@fault("recompute", kind="recompute")
def recomputation_that_is_off(_p: Patch, _e: Experiment, built: Built) -> None:
    for family in (built.family, built.teacher):
        family.pipeline.transformer.gradient_checkpointing = False
    built.method.modules["student"].transformer.gradient_checkpointing = False  # type: ignore[union-attr]


@fault("updates")
def updates_that_are_rounded_away_in_bfloat16(patch: Patch, _e: Experiment, built: Built) -> None:
    """Weights that are bfloat16 in all but name: this processor has no units for it."""
    right, optim = Adam.step, built.optims["student"]

    def rounded() -> None:
        for p in optim.parameters.values():
            p.copy_(p.bfloat16().float())

    def step(self: Adam, lr: float, *more: Any) -> None:
        with torch.no_grad():
            right(self, min(lr, 5e-6), *more)
            if self is optim.adam:
                rounded()

    with torch.no_grad():
        rounded()
    patch.setattr(Adam, "step", step)


@fault("updates")
def a_teacher_that_trains_along(patch: Patch, _e: Experiment, built: Built) -> None:
    right, teacher = Adam.step, next(iter(built.teacher.backbone.parameters()))

    def step(self: Adam, *given: Any) -> None:
        right(self, *given)
        with torch.no_grad():
            teacher.add_(1e-3)

    patch.setattr(Adam, "step", step)
