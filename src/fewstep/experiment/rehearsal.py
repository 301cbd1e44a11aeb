"""A step of each kind on the meta device: every operation of it, and not one number.

The method, its optimizers and the real step's own functions run on tensors that have shapes and
types alone. Operations are counted by torch's counter, bytes by `train.live`. The transformer runs
by the library's code (engine plain), in batches of one length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fewstep.data.batches import Batch
from fewstep.experiment.builder import make_method, make_optims
from fewstep.experiment.config import Experiment
from fewstep.experiment.divided import Divided, held_by_one
from fewstep.experiment.flash import flash
from fewstep.experiment.packing import pack_blocks
from fewstep.families.base import Cond
from fewstep.families.recompute import recompute
from fewstep.families.zimage import ZImage
from fewstep.methods.base import Method
from fewstep.nets.ema import Ema
from fewstep.rng import Rng
from fewstep.train.in_backward import step_in_backward
from fewstep.train.live import Live, nbytes
from fewstep.train.optim import Optim
from fewstep.train.step import accumulate

META = torch.device("meta")
LOOKED_AT = 1000
"""Steps among which the kinds of step are looked for."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a condition, and of what a teacher sees in its place."""

    cond: int = 128
    context: int = 512


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of step: which phases it has."""

    phases: tuple[str, ...]
    steps: int
    """How many of the run are of this kind."""
    flops: dict[str, int]
    """Of each phase, for a process's share of the batch: 2 for a multiplication and an addition."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    parameters: dict[str, int]
    """Numbers in the frozen models and in each module that trains."""
    kinds: tuple[Kind, ...]
    parts: dict[str, int]
    """Bytes that are there all the time, by what they are."""
    peaks: dict[str, int]
    """The most bytes while gradients of a phase are computed, and while it moves."""
    moved: dict[str, int]
    """Bytes that an update of a phase reads and writes at the least: weights and what is kept of
    them both, gradients once."""
    offloaded: dict[str, int]
    """Bytes that wait in main memory for an update of a phase."""
    pinned: int
    """Bytes of main memory that they take: torch gives out powers of two where a GPU is to read."""


def rehearse(
    experiment: Experiment, family: ZImage, teacher: ZImage, lengths: Lengths, processes: int = 1
) -> Rehearsal:
    """What an experiment takes of each of so many processes, by the outlines of its models
    (`experiment.outline`), which are changed. ValueError where it cannot be built."""
    dtype = getattr(torch, experiment.dtype)
    models = {id(f): f for f in (family, teacher)}
    for each in models.values():
        nn.Module.to(each.pipeline.transformer, dtype)  # its own warns of nothing
    counts = {f"frozen model {i + 1}": count(f.backbone.parameters()) for i, f in
              enumerate(models.values())}  # fmt: skip
    if experiment.recompute:
        recompute(*models.values(), share=experiment.recompute_share)
    if experiment.frozen != "dtype" and experiment.adapter is not None:
        for each in models.values():
            pack_blocks(each, experiment.frozen)
    method = make_method(experiment, family, teacher, META)
    optims = make_optims(experiment, method)
    size = experiment.data.micro_batch or experiment.data.batch_size
    batch = batch_of(experiment, family, lengths, size)
    of_step = -(-experiment.data.batch_size // size)
    own = -(-of_step // processes)
    kinds = kinds_of(method, experiment, batch, optims, own)
    sizes = method, list(models.values()), optims, batch, experiment
    parts, peaks = memory(*sizes, min(own, 2), processes)
    if own > 2:  # some methods keep the graphs of all micro-batches from one phase to the next
        _, fewer = memory(*sizes, 1, processes)
        peaks = {name: most + (own - 2) * (most - fewer[name]) for name, most in peaks.items()}
    counts |= {name: count(optim.parameters.values()) for name, optim in optims.items()}
    return Rehearsal(
        parameters=counts, kinds=kinds, parts=parts, peaks=peaks,
        moved={
            name: moved(o) // (processes if experiment.sharding.on else 1)
            for name, o in optims.items()
        },
        offloaded={n: nbytes(states([o])) if o.cfg.offload else 0 for n, o in optims.items()},
        pinned=sum(
            1 << (t.nbytes - 1).bit_length()
            for t in states(o for o in optims.values() if o.cfg.offload) if t.is_meta
        ),
    )  # fmt: skip


def count(tensors: Iterable[Tensor]) -> int:
    """Of all numbers."""
    return sum(t.numel() for t in tensors)


def states(optims: Iterable[Optim]) -> list[Tensor]:
    """What they keep beside weights."""
    return [t for o in optims for kept in o.adam.state.values() for t in kept.values()]


def moved(optim: Optim) -> int:
    return 3 * nbytes(optim.parameters.values()) + 2 * nbytes(states([optim]))


def batch_of(experiment: Experiment, family: ZImage, lengths: Lengths, size: int) -> Batch:
    """One micro-batch, with everything a method may ask for beside it."""
    height, width = experiment.data.size()
    shape, wide = family.latent_shape(height, width), family.backbone.cond_width

    def cond(length: int, n: int) -> Cond:
        return Cond(tuple(torch.zeros(length, wide, device=META) for _ in range(n)))

    def samples(n: int, kind: str) -> Batch:
        ids = tuple(f"{kind}{i}" for i in range(n))
        return Batch(ids=ids, x0=torch.zeros(n, *shape, device=META), cond=cond(lengths.cond, n))

    found = samples(size, "sample")
    context = experiment.data.source == "folder" and experiment.data.folder.context != "none"
    share = size / experiment.data.batch_size
    prior = max(1, round(experiment.data.prior_size * share))
    return replace(
        found, context=cond(lengths.context, size) if context else None,
        prior=samples(prior, "prior") if experiment.data.prior != "none" else None,
    )  # fmt: skip


def kinds_of(
    method: Method, experiment: Experiment, batch: Batch, optims: dict[str, Optim], micro: int
) -> tuple[Kind, ...]:
    """The kinds of step of a run, those of most phases first, each of so many micro-batches."""
    steps = experiment.loop.steps
    first: dict[tuple[str, ...], int] = {}
    often: Counter[tuple[str, ...]] = Counter()
    for step in range(steps):
        names = tuple(phase.name for phase in method.phases(step))
        first.setdefault(names, step)
        often[names] += 1
    found = []
    for names, step in sorted(first.items(), key=lambda item: -len(item[0])):
        flops: dict[str, int] = {}
        for phase in method.phases(step):
            optim = optims[phase.name]
            with FlopCounterMode(display=False) as counter:
                accumulate(
                    phase, [(batch, 1.0)], list(optim.parameters.values()), scale=1.0,
                    seed=experiment.seed, step=step, device=META,
                )  # fmt: skip
            optim.zero_grad()
            flops[phase.name] = micro * counter.get_total_flops()
        found.append(Kind(phases=names, steps=often[names], flops=flops))
    return tuple(found)


def memory(
    method: Method, models: list[ZImage], optims: dict[str, Optim], batch: Batch,
    experiment: Experiment, micro: int, processes: int,
) -> tuple[dict[str, int], dict[str, int]]:  # fmt: skip
    """Bytes by part, and the most by what is done, in a step of most phases and so many
    micro-batches, of a process."""
    fullest = max(range(min(experiment.loop.steps, LOOKED_AT)),
                  key=lambda step: len(list(method.phases(step))))  # fmt: skip
    live, peaks = Live(), dict[str, int]()
    trained = [m for m in method.modules.values() if not isinstance(m, Ema)]
    divided = Divided(experiment.sharding, processes, trained, [m.backbone for m in models])
    live.add(p for model in models for p in model.backbone.parameters())
    live.add(t for m in method.modules.values() for t in (*m.parameters(), *m.buffers()))
    batches = [replace(batch, ids=tuple(f"{name} {i}" for name in batch.ids)) for i in range(micro)]
    with live, flash():
        for optim in optims.values():  # a first update makes the moments
            for p in optim.parameters.values():
                p.grad = torch.zeros_like(p)
            optim.step(optim.norm())
            optim.first = None  # of which a run says a line and drops it
            optim.zero_grad()
        live.forget(states(o for o in optims.values() if o.cfg.offload))
        divided.weights(live)
        divided.cut(live, [*averages_of(method), *states(optims.values())])
        for phase in method.phases(fullest):
            optim = optims[phase.name]
            live.restart()
            if optim.cfg.in_backward:
                rng = Rng(0, fullest, phase.name, batch.ids, META)
                step_in_backward(phase, batches[0], optim, rng)
                phase.after()
                peaks[f"{phase.name}: gradients and update"] = live.peak
                continue
            with divided.scattered(live, optim):
                accumulate(
                    phase, [(b, 1 / len(batches)) for b in batches],
                    list(optim.parameters.values()), scale=1.0, seed=0, step=fullest, device=META,
                )  # fmt: skip
            peaks[f"{phase.name}: gradients"] = live.peak + divided.gathered()
            for p in optim.parameters.values():  # what was scattered is weighed with the update
                p.grad = torch.zeros_like(p) if divided.among > 1 else p.grad
            live.restart()
            before = live.now
            gradients = nbytes(p.grad for p in optim.parameters.values() if p.grad is not None)
            optim.step(optim.norm())
            optim.zero_grad()
            phase.after()
            peaks[f"{phase.name}: update"] = divided.update(optim, before, live.peak, gradients)
    sizes = parts_of(method, models, optims)
    return held_by_one(sizes, divided) if divided.among > 1 else sizes, peaks


def averages_of(method: Method) -> list[Tensor]:
    return [
        p for module in method.modules.values()
        if isinstance(module, Ema) and module.module is not None
        for p in module.module.parameters()
    ]  # fmt: skip


def parts_of(method: Method, models: list[ZImage], optims: dict[str, Optim]) -> dict[str, int]:
    """What lies on the device from the first update on."""
    found: dict[str, list[Tensor]] = {
        "frozen models": [p for model in models for p in model.backbone.parameters()],
        "averages": [], "trained weights": [], "rest of weights": [], "moments": [],
    }  # fmt: skip
    found["averages"] += averages_of(method)
    for optim in optims.values():
        found["trained weights"] += optim.parameters.values()
        if optim.cfg.offload:
            continue
        for kept in optim.adam.state.values():
            for name, tensor in kept.items():
                found["rest of weights" if name == "low" else "moments"].append(tensor)
    seen: set[int] = set()
    sizes: dict[str, int] = {}
    for name, tensors in found.items():
        own = [t for t in tensors if id(t) not in seen]
        seen |= {id(t) for t in own}
        sizes[name] = nbytes(own)
    return sizes
