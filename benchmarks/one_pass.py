"""The one-pass LADD step against the naive one: gradients, forwards and wall time.

    OMP_NUM_THREADS=1 python -m benchmarks.one_pass [--results results]

Two copies of one training run go side by side, one step each in turn: `LADD` and `NaiveLADD`, on
the project's own Z-Image backbone at tiny size. Since their gradients must be equal bit for bit, so
must their weights after any number of steps. Time is that of whole steps (losses, backward, AdamW,
EMA) by the clock, so the machine should have a core to spare; the ratio of processor times stands
in the note. Where the student moves on every step (N = 1, as in the recipes for Shapes) the shared
pass saves most; N = 3 is measured beside it. The records are `spine.one_pass_speedup` and
`spine.one_pass_speedup_n3`. About four minutes.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from benchmarks.common import claim, facts
from benchmarks.naive_ladd import NaiveLADD
from benchmarks.pages import shown
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor, nn

from fewstep import claims
from fewstep.data.batches import Batch
from fewstep.evaluate.statistics import Estimate
from fewstep.families.base import Cond
from fewstep.families.zimage import ZImageBackbone
from fewstep.methods.base import Method, Phase
from fewstep.methods.ladd import LADD, LADDConfig
from fewstep.nets.heads import Heads, HeadsConfig
from fewstep.rng import Rng

RECORDS = {
    1: ("one_pass_speedup", "student moves", ">= 1.3"),
    3: ("one_pass_speedup_n3", "student moves on every 3rd step", ""),
}
"""N, the steps from one move of the student to the next: record, what it says, goal."""
COND_WIDTH = 32


def tiny_backbone(*, dim: int, depth: int, channels: int, seed: int) -> ZImageBackbone:
    """The project's Z-Image over a real transformer of any size, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = ZImageTransformer2DModel(
            all_patch_size=(2,), all_f_patch_size=(1,), in_channels=channels, dim=dim,
            n_layers=depth, n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=COND_WIDTH,
            axes_dims=[dim // 8, dim // 16, dim // 16], axes_lens=[256, 64, 64],
        )  # fmt: skip
        # Zero pad tokens sit on the singularity of RMSNorm, where gradients explode.
        nn.init.normal_(transformer.x_pad_token, std=0.02)
        nn.init.normal_(transformer.cap_pad_token, std=0.02)
    return ZImageBackbone(transformer)


def tiny_ladd(*, dim: int = 32, depth: int = 2, channels: int = 4, student_every: int = 1) -> LADD:
    """LADD on a tiny Z-Image, heads on every second block and the last."""
    cfg = LADDConfig(
        layers=tuple(range(1, depth, 2)),
        heads=HeadsConfig(hidden=32, embed=32),
        student_every=student_every,
        heads_first=0,
        warmup_steps=0,
    )
    teacher = tiny_backbone(dim=dim, depth=depth, channels=channels, seed=0).requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    heads = Heads(cfg.heads, width=dim, cond_width=COND_WIDTH, count=len(cfg.layers), seed=0)
    return LADD(cfg, student=student, teacher=teacher, heads=heads)


def random_batch(step: int, *, b: int, size: int, channels: int) -> Batch:
    ids = tuple(f"{step}-{i}" for i in range(b))
    rng = Rng(0, step, "data", ids)
    return Batch(
        ids=ids, x0=rng.randn(channels, size, size), cond=Cond(tuple(rng.randn(32, COND_WIDTH)))
    )


@dataclass
class Runner:
    """One of the two training runs: what the loop does, with a stop watch and counters."""

    method: Method
    ladd: LADD
    seconds: list[float] = field(default_factory=list)
    """By the clock."""
    busy: list[float] = field(default_factory=list)
    """Of the processor."""
    forwards: Counter[str] = field(default_factory=Counter)
    grads: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optims = {
            "heads": torch.optim.AdamW(self.ladd.heads.parameters(), 1e-4),
            "student": torch.optim.AdamW(self.ladd.student.parameters(), 1e-5),
        }
        for name, module in (("student", self.ladd.student), ("teacher", self.ladd.teacher)):
            # before the pass, for one that only taps features ends early
            module.register_forward_pre_hook(lambda *_, name=name: self.forwards.update([name]))

    def step(self, step: int, batch: Batch) -> None:
        start, busy = time.perf_counter(), time.process_time()
        for phase in self.method.phases(step):
            assert isinstance(phase, Phase)  # LADD's losses come in one piece
            optim = self.optims[phase.name]
            optim.zero_grad()
            loss, _ = phase.loss(batch, Rng(0, step, phase.name, batch.ids))
            weights = list(phase.module.parameters())
            loss.backward(inputs=weights)
            self.grads[phase.name] = [p.grad for p in weights if p.grad is not None]
            optim.step()
            phase.after()
        self.seconds.append(time.perf_counter() - start)
        self.busy.append(time.process_time() - busy)


def pair(**sizes: int) -> tuple[Runner, Runner]:
    """The one-pass run and the naive run, from equal weights."""
    one, other = tiny_ladd(**sizes), tiny_ladd(**sizes)
    return Runner(one, one), Runner(NaiveLADD(other, seed=0), other)


def largest_difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def speedup(naive: Sequence[float], one: Sequence[float], period: int) -> Estimate:
    """Ratio of total times with its 95 % interval, by bootstrap over the interleaved pairs.

    A pair is `period` steps, which hold one move of the student: steps differ within a period.
    """
    times = np.array([naive, one]).reshape(2, -1, period).sum(2)
    rows = np.random.default_rng(0).integers(0, times.shape[1], (10_000, times.shape[1]))
    draws = times[0][rows].sum(1) / times[1][rows].sum(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(times[0].sum() / times[1].sum()), float(low), float(high), 0, 0)


@dataclass(frozen=True)
class Found:
    """What one comparison showed."""

    speedup: Estimate
    busy_speedup: Estimate
    """The same of processor time."""
    seconds: Mapping[str, float]
    """Mean of a step."""
    forwards: Mapping[str, Mapping[str, float]]
    """Passes through each model in a step."""
    gradient: float
    """Largest difference of a gradient, of any step."""
    weight: float
    """Largest difference of a weight of the student after the last step."""


def compare(every: int, *, pairs: int, batch: int, warm: int = 2, **sizes: int) -> Found:
    """Both runs side by side for `pairs` periods of `every` steps, after `warm` untimed ones."""
    one, naive = pair(**sizes, student_every=every)
    untimed, steps, gradient = warm * every, (warm + pairs) * every, 0.0
    for step in range(steps):
        given = random_batch(step, b=batch, size=16, channels=sizes.get("channels", 4))
        for runner in (one, naive) if step % 2 else (naive, one):
            runner.step(step, given)
        for name, found in one.grads.items():
            gradient = max(gradient, largest_difference(found, naive.grads[name]))
    runs = {"one pass": one, "naive": naive}
    ends = ([p.detach() for p in runner.ladd.student.parameters()] for runner in (one, naive))
    return Found(
        speedup=speedup(naive.seconds[untimed:], one.seconds[untimed:], every),
        busy_speedup=speedup(naive.busy[untimed:], one.busy[untimed:], every),
        seconds={name: float(np.mean(r.seconds[untimed:])) for name, r in runs.items()},
        forwards={
            name: {role: round(n / steps, 3) for role, n in sorted(r.forwards.items())}
            for name, r in runs.items()
        },
        gradient=gradient,
        weight=largest_difference(*ends),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="One-pass against naive LADD.")
    parser.add_argument("--pairs", type=int, default=30, help="timed moves of the student")
    parser.add_argument("--batch", type=int, default=32, help="that of the recipes for Shapes")
    parser.add_argument("--results", type=Path, help="folder to write the records to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        every: compare(every, pairs=args.pairs, batch=args.batch, dim=128, depth=6, channels=8)
        for every in RECORDS
    }
    for every, f in found.items():
        print(f"N = {every}: speed-up {shown(f.speedup)}, {args.pairs} pairs; seconds a step "
              f"{f.seconds}; forwards a step {f.forwards}; largest difference of a gradient "
              f"{f.gradient}, of a weight {f.weight}")  # fmt: skip
    if args.results is None:
        return
    command = (
        f"OMP_NUM_THREADS=1 python -m benchmarks.one_pass --pairs {args.pairs} "
        f"--batch {args.batch} --results results"
    )
    made = facts(command, 1)
    records = [
        claim(
            name, f"wall time of the naive LADD step over the one-pass step ({what})",
            found[every].speedup, made=made, n=args.pairs, goal=goal, unit="x",
            note=f"N = {every} steps from one move of the student to the next; n = interleaved "
            f"pairs of {every} step{'s' * (every > 1)}; of processor time "
            f"{found[every].busy_speedup.value:.3g}; largest gradient difference "
            f"{found[every].gradient}; forwards in a step {found[every].forwards}",
        )
        for every, (name, what, goal) in RECORDS.items()
    ]  # fmt: skip
    print(f"wrote {claims.write(records, 'spine', args.results)}")


if __name__ == "__main__":
    main()
