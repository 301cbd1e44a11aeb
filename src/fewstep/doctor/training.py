"""A step of training, looked at from inside: what goes in, what comes out, what moves."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fewstep.doctor.base import Finding, bad, doubtful, good, not_here
from fewstep.doctor.patient import Patient, overheard, relative
from fewstep.flow import path
from fewstep.methods.base import AnyPhase
from fewstep.methods.ladd import LADD
from fewstep.nets.adapters import Adapted
from fewstep.rng import Rng

SEEN_STEPS = 4
"""Steps of which the micro-batches are looked at."""
NOISED = ("ladd", "sft", "dreambooth")
"""Methods whose student sees noised pictures; that of others sees what it has drawn itself."""


def fullest(patient: Patient) -> int:
    """A step with all phases."""
    steps = range(patient.experiment.loop.steps)
    return max(steps, key=lambda step: len(list(patient.built.method.phases(step))))


def micro_batches(patient: Patient) -> Finding:
    """How many samples go through a loss together."""
    sizes = [len(b) for step in range(SEEN_STEPS) for b in patient.built.batches(step)]
    least, loss = min(sizes), getattr(patient.experiment.method, "loss", "")
    evidence = f"micro-batches of {least} to {max(sizes)} samples"
    if least == 1 and loss == "hinge":
        return bad(
            f"{evidence}: a hinge on one sample has no gradient as soon as it is on the right side",
            "set data.micro_batch to none, or method.loss to softplus", least=least,
        )  # fmt: skip
    if least == 1 and patient.experiment.method.name in ("ladd", "dmd2"):
        return doubtful(
            f"{evidence}: accuracies of one sample are 0 or 1 and say nothing",
            "look at losses, gap and pictures", least=least,
        )  # fmt: skip
    return good(evidence, least=least)


def student_input(patient: Patient) -> Finding:
    """Whether the student sees its pictures at the levels that it is told."""
    method = patient.built.method
    if patient.experiment.method.name not in NOISED:
        return not_here("the student sees what it has drawn itself")
    batch = patient.batch
    with overheard(method.modules["student"]) as calls:
        for phase in method.phases(fullest(patient)):
            # parts that follow stand on the same pictures
            next(iter(parts_of(phase, patient)))
    seen = [call for call in calls if call.x.shape == batch.x0.shape]
    if not seen:
        return bad("the student is asked about nothing of the batch's shape", "see data.size")
    call = seen[0]
    x, x0, sigma = call.x.flatten(1), batch.x0.flatten(1), call.sigma
    share = (x * x0).mean(1) / x0.square().mean(1)
    rest = (x - (1 - sigma)[:, None] * x0).square().mean(1).sqrt()
    off, noise = float((share - (1 - sigma)).abs().mean()), float((rest - sigma).abs().mean())
    facts = {"share_off": off, "noise_off": noise}
    evidence = (
        f"of a picture noised to sigma the student sees 1 - sigma, but for {off:.2g} on average, "
        f"and noise of sigma, but for {noise:.2g}"
    )
    if not off <= 0.1 or not noise <= 0.15:
        return bad(evidence, "its input does not match the level that it is told", **facts)
    return good(evidence, **facts)


def parts_of(phase: AnyPhase, patient: Patient) -> Iterator[object]:
    batch = patient.batch
    rng = Rng(0, fullest(patient), phase.name, batch.ids, patient.device)
    return iter(phase.parts(batch, rng))


@torch.no_grad()
def estimate(patient: Patient) -> Finding:
    """Whether what the heads judge is the clean end of the student's velocity."""
    method = patient.built.method
    if not isinstance(method, LADD):
        return not_here("nothing is judged")
    batch = patient.batch
    rng = Rng(0, 0, "heads", batch.ids, patient.device)
    with overheard(method.student) as calls:
        x0_hat = method.denoise(batch, rng, method.cfg.probs(0))
    call = calls[0]
    candidates = {
        "x - sigma v": path.to_x0(call.x, call.v, call.sigma), "the velocity": call.v,
        "minus the velocity": -call.v, "x + sigma v": path.to_x0(call.x, -call.v, call.sigma),
    }  # fmt: skip
    away = {name: float(relative(x0_hat, each).mean()) for name, each in candidates.items()}
    nearest = min(away, key=lambda name: away[name])
    if nearest != "x - sigma v" or away[nearest] > 1e-3:
        return bad(
            f"the estimate is {away['x - sigma v']:.2g} of the mean square away from x - sigma v, "
            f"and {away[nearest]:.2g} from {nearest}",
            "x0_hat = x - sigma v", away=away,
        )  # fmt: skip
    return good("what is judged is x - sigma v of the student", away=away)


@torch.no_grad()
def judge(patient: Patient) -> Finding:
    """Whether the heads see any difference between what is real and what is not."""
    method = patient.built.method
    if not isinstance(method, LADD):
        return not_here("nothing is judged")
    batch = patient.batch
    rng = Rng(0, 0, "heads", batch.ids, patient.device)
    x0_hat = method.denoise(batch, rng, method.cfg.probs(0))
    sigma, eps = method.draw_renoise(batch, rng)
    real = method.judge.view(batch.x0, sigma, eps, batch.cond)
    fake = method.judge.view(x0_hat, sigma, eps, batch.cond)
    apart = [
        float(relative(f.flatten(1), r.flatten(1)).mean())
        for f, r in zip(fake.features, real.features, strict=True)
    ]
    spread = float(method.judge(real).std())
    facts = {"apart": apart, "logit_std": spread}
    evidence = (
        f"features of real and fake differ by {', '.join(f'{a:.2g}' for a in apart)} of their mean "
        f"square in blocks {', '.join(map(str, method.cfg.layers))}"
    )
    if not min(apart) > 1e-6:
        return bad(evidence, "heads that see no difference teach nothing: see method.layers and "
                   "what is taken as fake", **facts)  # fmt: skip
    if not spread > 0:
        return bad(f"{evidence}, and logits are all the same", "heads do not look at features",
                   **facts)  # fmt: skip
    return good(evidence, **facts)


@torch.no_grad()
def adapter(patient: Patient) -> Finding:
    """Whether there are adapted layers, and moving them moves what the model says."""
    if patient.experiment.adapter is None:
        return not_here("every weight trains")
    student, base = patient.built.method.modules["student"], patient.built.family.backbone
    adapted = [m for m in student.modules() if isinstance(m, Adapted)]
    numbers = sum(p.numel() for p in student.parameters() if p.requires_grad)
    share = numbers / sum(p.numel() for p in base.parameters())
    facts = {"layers": len(adapted), "numbers": numbers, "share": share}
    evidence = f"{len(adapted)} layers adapted by {numbers:,} numbers ({share:.1%} of the model's)"
    if not adapted or not numbers:
        return bad(evidence, "see adapter.targets: they name no layer of this model", **facts)
    batch = patient.batch
    sigma = torch.full((len(batch),), 0.7, device=patient.device)
    before = student(batch.x0, sigma, batch.cond)
    moved = [p for p in student.parameters() if p.requires_grad]
    kept = [p.clone() for p in moved]
    draws = torch.Generator().manual_seed(0)
    try:
        for p in moved:
            p.add_(0.02 * torch.randn(p.shape, generator=draws).to(p))
        change = float(relative(student(batch.x0, sigma, batch.cond), before).mean())
    finally:
        for p, value in zip(moved, kept, strict=True):
            p.copy_(value)
    if not change > 1e-10:
        return bad(
            f"{evidence}, and moving them changes nothing that the model says",
            "is the adapter's strength 0, or does another tree run?", change=change, **facts,
        )  # fmt: skip
    return good(f"{evidence}; moving them moves the model", change=change, **facts)
