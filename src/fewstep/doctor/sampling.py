"""The model as it is sampled: its levels, its time and sign, its guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fewstep.doctor.base import Finding, bad, doubtful, good, not_here
from fewstep.doctor.patient import LEVELS, Model, Patient, overheard, relative
from fewstep.evaluate.grids import Column
from fewstep.flow import path
from fewstep.flow.guidance import guided
from fewstep.flow.sample import SamplerName, draw, euler
from fewstep.rng import Rng

SAME = 0.02
"""Relative mean square below which two samplers have drawn the same: rounding in bfloat16."""


def grid(model: Model) -> Finding:
    """The levels at which the pipeline calls the model, and those of our sampler."""
    family, n = model.family, model.few
    theirs, ours = model.by_pipeline(n, 1.0).sigmas, visited(model, family.sampler)
    facts = {"pipeline": list(theirs), "ours": ours}
    if len(ours) != n or len(theirs) != n:
        return bad(
            f"{n} steps are {len(ours)} calls of the model by our sampler and {len(theirs)} by the "
            "pipeline", "see sampling.steps and the scheduler's config: a grid of N steps has N + "
            "1 levels and ends in 0", **facts,
        )  # fmt: skip
    if apart(theirs, ours):
        return bad(
            f"the pipeline calls the model at {shown(theirs)}, our sampler at {shown(ours)}",
            "see shift in scheduler/scheduler_config.json: it must be applied once", **facts,
        )  # fmt: skip
    if ours[0] != 1 or family.sigmas(n)[-1] != 0:
        return bad(
            f"the grid goes from {ours[0]:g} to {family.sigmas(n)[-1]:g}",
            "it must begin in noise (1) and end in a picture (0)", **facts,
        )  # fmt: skip
    return good(f"{n} calls at {shown(ours)}, by the pipeline and by our sampler", **facts)


@torch.no_grad()
def visited(model: Model, sampler: SamplerName) -> list[float]:
    """Where our sampler calls the model."""
    family = model.family
    with overheard(model.backbone) as calls:
        velocity = guided(model.backbone, model.cond[[0]], None, 1)
        again = Rng(0, 0, "doctor", ["grid"], model.device)
        draw(sampler, velocity, model.eps[:1], family.sigmas(model.few), again)
    return [float(call.sigma[0]) for call in calls]


def levels(patient: Patient) -> Finding:
    """Whether training visits what the sampler visits."""
    cfg = patient.experiment.sampling
    ours = visited(patient.own, cfg.sampler)
    trained = sorted(patient.experiment.method.student_sigmas, reverse=True)
    facts = {"trained": trained, "sampled": ours}
    if apart(trained, ours):
        return bad(
            f"training visits {shown(trained)}, the sampler {shown(ours)}",
            "set method.student_sigmas to the sampler's levels", **facts,
        )  # fmt: skip
    return good(f"the student is trained at {shown(trained)}, where it will be asked", **facts)


def apart(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) != len(b) or max(abs(x - y) for x, y in zip(a, b, strict=True)) > 1e-3


def shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@torch.no_grad()
def convention(model: Model) -> Finding:
    """Time and sign: how far one step from a noised picture lands, with either flipped too."""
    backbone, x0, cond = model.backbone, model.by_pipeline().x0, model.cond
    errors: dict[str, list[float]] = {name: [] for name in WAYS}
    ignorant = list[float]()
    for sigma in LEVELS:
        x, v, level = model.asked_at(x0, cond, sigma)
        ignorant.append(float(relative(x, x0).mean()))
        flipped = backbone(x, 1 - level, cond)
        for name, answer in zip(WAYS, (v, -v, flipped, -flipped), strict=True):
            errors[name].append(float(relative(path.to_x0(x, answer, level), x0).mean()))
    # far from noise a model must know what it sees; at high levels nobody does
    score = {name: sum(each[:3]) / sum(ignorant[:3]) for name, each in errors.items()}
    best = min(score, key=lambda name: score[name])
    own = score[WAYS[0]]
    evidence = (
        f"one step from pictures noised to {shown(LEVELS)} errs by {shown(errors[WAYS[0]])} of "
        "their mean square"
    )
    if best != WAYS[0] and score[best] < 0.7 * own:
        return bad(
            f"{evidence}; {best} it would err by {shown(errors[best])}",
            "the family's file has time or sign the other way round than the model", errors=errors,
        )  # fmt: skip
    if own > 0.5:
        return bad(
            f"{evidence}, and the noise that was put in is {shown(ignorant)}: in no convention "
            "does the model take it out", "were its weights "
            "loaded, and are latents those of its own autoencoder?", errors=errors,
        )  # fmt: skip
    return good(evidence, errors=errors)


WAYS = ("as it is", "with the other sign", "with the other time", "with the other time and sign")


@torch.no_grad()
def pipeline(model: Model) -> Finding:
    """Our sampler against the diffusers pipeline: same noise, same prompts, with guidance."""
    family = model.family
    # beyond one step a stochastic scheduler draws noise of its own
    steps = 1 if family.sampler == "renoise" else model.few
    found: dict[str, float] = {}
    for w in (1.0, 2.0):
        velocity = guided(model.backbone, model.cond, model.nothing, w)
        ours = euler(velocity, model.eps, family.sigmas(steps))
        for g in (w, w + 1, max(1.0, w - 1)):
            key = f"w = {w:g} against the pipeline's {g - 1:g}"
            found[key] = float(relative(ours, model.by_pipeline(steps, g).x0).mean())
    own = {w: found[f"w = {w:g} against the pipeline's {w - 1:g}"] for w in (1.0, 2.0)}
    best = min((key for key in found if key.startswith("w = 2")), key=lambda key: found[key])
    if own[1.0] > SAME:
        return bad(
            f"our sampler without guidance lands {own[1.0]:.2g} of the mean square away from the "
            "pipeline", "the family's file and the pipeline disagree", apart=found,
        )  # fmt: skip
    if own[2.0] > max(SAME / 10, 2 * found[best]) or family.pipeline_guidance(2.0) != 1.0:
        return bad(
            f"guidance w = 2 lands {own[2.0]:.2g} of the mean square away from the pipeline's 1; "
            f"nearest is {best} ({found[best]:.2g})",
            "w = 1 is no guidance, and the pipeline's number is w - 1", apart=found,
        )  # fmt: skip
    return good(
        f"{steps} steps of ours land within {max(own.values()):.1g} of the mean square of the "
        "pipeline's, without guidance and with", apart=found,
    )  # fmt: skip


def guidance(patient: Patient) -> Finding:
    """Whether what is trained on was drawn with the guidance that its model is made for."""
    model, data = patient.model, patient.experiment.data
    if data.source != "samples":
        return not_here("no teacher draws pictures for this run")
    if model.few_step:
        return not_here("the teacher is a few-step model, which needs no guidance")
    w = data.samples.guidance
    moved = float(relative(model.by_pipeline(w=2.0).x0, model.by_pipeline(w=1.0).x0).mean())
    if w <= 1:
        return doubtful(
            f"data.samples.guidance is {w:g}, which is none, and guidance 2 changes the teacher's "
            f"pictures by {moved:.2g} of their mean square",
            "unless the teacher is distilled itself, set data.samples.guidance: `fewstep doctor "
            "--full` shows pictures at several",
            changed=moved,
        )  # fmt: skip
    return good(f"samples are drawn with w = {w:g}; w = 2 changes pictures by {moved:.2g}",
                changed=moved)  # fmt: skip


@torch.no_grad()
def guidance_grid(model: Model) -> Finding:
    """Pictures at several guidances, for eyes; and how many are right, where the world can tell."""
    world = model.world
    columns, rights = list[Column](), dict[str, float]()
    for w in (1.0, 1.5, 2.0, 3.0, 5.0):
        images = model.pictures(model.by_pipeline(20 if not model.few_step else None, w).x0)
        columns.append(Column(f"w = {w:g}", images.cpu()))
        if world is not None:
            right = world.adherence(images.cpu(), model.prompts)["all"]
            rights[f"{w:g}"] = float(right.mean())
    told = ", ".join(f"{share:.0%} at w = {w}" for w, share in rights.items())
    return Finding(
        state="pass", facts={"right": rights}, pictures=(tuple(columns), model.prompts),
        evidence="pictures at five guidances" + (f"; fully right: {told}" if told else ""),
    )  # fmt: skip


@torch.no_grad()
def gap(model: Model) -> Finding:
    """Whether few steps are worse than many, so that there is something to distil."""
    if model.few_step:
        return not_here("it is a few-step model")
    few = model.few
    whole = model.by_pipeline(20)
    short = model.by_pipeline(few, 1.0)
    moved = float(relative(short.x0, whole.x0).mean())
    images = [model.pictures(d.x0).cpu() for d in (whole, short)]
    columns = (Column("20 steps", images[0]), Column(f"{few} steps, unguided", images[1]))
    pictures = (columns, model.prompts)
    evidence = (
        f"{few} steps without guidance end {moved:.2g} of the mean square away from 20 steps with "
        f"w = {model.guidance:g}"
    )
    if moved < SAME:
        return Finding(
            state="warn", evidence=evidence, fix="there is hardly a gap to close: is the model "
            "distilled already?", facts={"moved": moved}, pictures=pictures,
        )  # fmt: skip
    return Finding(state="pass", evidence=evidence, facts={"moved": moved}, pictures=pictures)
