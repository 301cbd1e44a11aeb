"""What a step of training leaves: gradients where they belong, and weights that have moved."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from fewstep.data.batches import Batch
from fewstep.doctor.base import Finding, bad, doubtful, good, not_here
from fewstep.doctor.patient import Patient
from fewstep.doctor.training import fullest
from fewstep.methods.base import AnyPhase
from fewstep.train.optim import Optim
from fewstep.train.step import accumulate, run_step


def gradients(patient: Patient) -> Finding:
    """Finite and other than zero in every block that trains, and none in what is frozen."""
    built, batch, step = patient.built, patient.batch, fullest(patient)
    silent, broken, still, blocks = list[str](), list[str](), list[str](), 0
    for phase in built.method.phases(step):
        found = seen_of(phase, built.optims[phase.name], batch, step, patient)
        blocks += len(found)
        broken += [f"{phase.name} {block}" for block, seen in found.items() if not seen.finite]
        none = [f"{phase.name} {block}" for block, seen in found.items() if not seen.any]
        if len(none) < len(found):
            silent += none
        else:
            still.append(phase.name)
    facts = {"blocks": blocks, "silent": silent, "broken": broken, "still": still}
    if broken:
        return bad(f"gradients of {broken[0]} are not finite ({len(broken)} of {blocks} blocks)",
                   "see the loss at its extremes", **facts)  # fmt: skip
    if silent:
        return bad(f"no gradient reaches {silent[0]} ({len(silent)} of {blocks} blocks)",
                   "what has none does not learn", **facts)  # fmt: skip
    if built.frozen is not None and (fault := built.frozen.fault()) is not None:
        return bad(f"of the frozen weights {fault}", "freeze them", **facts)
    if still:
        return doubtful(
            f"at the start {still[0]} has no gradient other than zero",
            "right where student, teacher and critic begin equal, and wrong anywhere else", **facts,
        )  # fmt: skip
    return good(f"finite and other than zero in all of {blocks} blocks", **facts)


@dataclass
class Seen:
    """Of the gradients of a block."""

    finite: bool = True
    any: bool = False


def seen_of(
    phase: AnyPhase, optim: Optim, batch: Batch, step: int, patient: Patient
) -> dict[str, Seen]:
    """By block. No two gradients are kept, for some recipes have no room for them. Tokens of
    padding are left out: where nothing is padded they have none."""
    names = {name: block_of(name) for name in optim.parameters if "pad_token" not in name}
    found = {block: Seen() for block in names.values()}

    def look(name: str, p: nn.Parameter) -> None:
        assert p.grad is not None
        if name in names:
            seen = found[names[name]]
            seen.finite &= bool(p.grad.isfinite().all())
            seen.any |= bool(p.grad.any())
        p.grad = None

    handles = [
        p.register_post_accumulate_grad_hook(partial(look, name))
        for name, p in optim.parameters.items()
    ]
    try:
        accumulate(
            phase, [(batch, 1.0)], list(optim.parameters.values()), scale=1.0,
            seed=patient.experiment.seed, step=step, device=patient.device,
        )  # fmt: skip
    finally:
        for handle in handles:
            handle.remove()
        optim.zero_grad()
    return found


def block_of(name: str) -> str:
    """layers.3 of layers.3.attention.to_q.weight; the first word where there is no number."""
    words = name.split(".")
    end = next((i + 1 for i, word in enumerate(words) if word.isdigit()), 1)
    return ".".join(words[:end])


def recomputed(patient: Patient) -> Finding:
    """Whether blocks are computed again where that was asked for."""
    counter = patient.built.recomputed
    if counter is None:
        return not_here("not asked for")
    if counter.again == 0:
        return bad("recompute is true, and no block was computed again",
                   "activations are kept: the step takes the memory of one without")  # fmt: skip
    return good(f"{counter.again} blocks were computed again")


def updates(patient: Patient) -> Finding:
    """What a first update moves, and whether frozen weights stay."""
    built, step, lines = patient.built, fullest(patient), list[str]()
    batches = built.batches(step)
    bad_phase = run_step(
        built.method, batches, built.optims, {}, seed=patient.experiment.seed, step=step,
        device=patient.device,
    )  # fmt: skip
    if bad_phase is not None:
        return bad(f"{bad_phase} is not finite", "lower the learning rate, or see the data")
    for name, optim in built.optims.items():
        if (line := optim.first_move(name)) is not None:
            lines.append(line)
    if warned := [line for line in lines if line.startswith("warning: ")]:
        return bad(warned[0].removeprefix("warning: "), "its updates are lost in rounding")
    if built.frozen is not None and (fault := built.frozen.fault()) is not None:
        return bad(f"a step has changed frozen weights: {fault}", "freeze them")
    return good("; ".join(lines) or "no update was the first of all")
