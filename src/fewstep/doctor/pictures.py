"""What is trained on: its autoencoder, whether a teacher drew it, and whether words fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.data.scale import check_scale
from fewstep.doctor.base import Finding, bad, doubtful, good, not_here
from fewstep.doctor.patient import Model, Patient, relative
from fewstep.errors import UserError

ROUND_TRIP = 0.2
KNOWN = 0.3
"""A level at which a model sees nearly everything of its own pictures."""
TOLD = 0.9
"""A level at which it needs the prompt."""
ENOUGH, STEPS = 32, 8
"""Samples that are enough to tell whether prompts fit, and steps in which they are looked for."""


@torch.no_grad()
def autoencoder(model: Model) -> Finding:
    """Latents of the model's own pictures through pictures and back, and their scale."""
    family, x0 = model.family, model.by_pipeline().x0
    images = model.pictures(x0)
    again = torch.cat([family.encode_image(image[None]).float() for image in images])
    error = float(relative(again, x0).mean())
    gain = float((again * x0).mean() / x0.square().mean())
    size = float(x0.square().mean().sqrt())
    flat = float(((images <= 0) | (images >= 1)).float().mean())
    facts = {"error": error, "gain": gain, "size": size, "saturated": flat}
    evidence = (
        f"latents have root mean square {size:.2f}; decoded and encoded again they come back "
        f"{gain:.2f} times as large, {error:.2g} of the mean square away"
    )
    if not error <= ROUND_TRIP or not 0.8 < gain < 1.25:
        return bad(
            evidence, "see scaling_factor and shift_factor in vae/config.json: are they those that "
            "the transformer was trained with?", **facts,
        )  # fmt: skip
    return good(evidence, **facts)


@torch.no_grad()
def samples(patient: Patient) -> Finding:
    """Whether what is learnt from is what a teacher draws, and not noise or of another scale."""
    if patient.experiment.data.source == "prompts":
        return not_here("the student draws what it learns from")
    batch = patient.batch
    try:
        check_scale(list(batch.x0), "the samples")
    except UserError as error:
        return bad(str(error), "delete the cache of samples")
    own = patient.model.by_pipeline().x0
    known = float(patient.model.one_step_error(own, patient.model.cond, KNOWN).mean())
    error = float(patient.model.one_step_error(batch.x0, batch.cond, KNOWN).mean())
    facts = {"error": error, "own": known}
    evidence = (
        f"noised to {KNOWN:g}, samples are told to {error:.2g} of their mean square and the "
        f"model's own pictures to {known:.2g}"
    )
    drawn = patient.experiment.data.source == "samples"
    if error > (max(4 * known, 0.1) if drawn else 0.6):
        return bad(
            evidence, "they are not what the teacher draws: delete the cache, and look at a few of "
            "them", **facts,
        )  # fmt: skip
    return good(evidence, **facts)


@torch.no_grad()
def captions(patient: Patient) -> Finding:
    """Whether samples are told better by their own prompts than by those of others."""
    source = patient.experiment.data.source
    if source == "prompts":
        return not_here("there are no pictures beside the prompts")
    gains: list[Tensor] = []
    for step in range(STEPS):
        gains += [gain_of(patient.model, b.to(patient.device)) for b in patient.built.batches(step)]
        if sum(map(len, gains)) >= ENOUGH:
            break
    gain = torch.cat(gains)
    n = len(gain)
    if n < ENOUGH / 2:
        return not_here(f"{n} samples beside others with another prompt are too few to tell")
    mean = float(gain.mean())
    z = mean / (float(gain.std()) / math.sqrt(n) + 1e-12)
    facts = {"gain": mean, "z": z, "n": n}
    evidence = (
        f"noised to {TOLD:g}, {n} samples are told better by their own prompts than by others' by "
        f"{mean:.2g} of their mean square ({z:.1f} standard errors)"
    )
    if source == "folder" and not z >= 3:
        return doubtful(evidence, "captions that are nearly alike tell pictures no better", **facts)
    if not z >= 1:
        return bad(evidence, "prompts and pictures do not belong together: delete the cache, and "
                   "see in which order they were written", **facts)  # fmt: skip
    if not z >= 3:
        return doubtful(evidence, "look at some of them: prompts hardly fit", **facts)
    return good(evidence, **facts)


def gain_of(model: Model, batch: Batch) -> Tensor:
    """Of each sample that has another prompt than the next one: the error under that one's, minus
    the error under its own."""
    n = len(batch)
    others = batch.cond[[(i + 1) % n for i in range(n)]]
    differ = [
        i for i, (a, b) in enumerate(zip(batch.cond.tokens, others.tokens, strict=True))
        if a.shape != b.shape or not torch.equal(a, b)
    ]  # fmt: skip
    if not differ:
        return torch.zeros(0)
    x0 = batch.x0[differ]
    both = [
        model.one_step_error(x0, others[differ], TOLD, seed)
        - model.one_step_error(x0, batch.cond[differ], TOLD, seed)
        for seed in (1, 2)
    ]
    return torch.stack(both).mean(0).cpu()
