"""The one-pass LADD step against the naive one: gradients, forwards and wall time.

    OMP_NUM_THREADS=1 python -m benchmarks.one_pass

Two copies of one training run go side by side, one step each in turn: `LADD` and `NaiveLADD`, on a
tiny but real ZImageTransformer2DModel. Since their gradients must be equal bit for bit, so must
their weights after any number of steps. Time is that of whole steps: losses, backward, AdamW, EMA.
The record is `spine.one_pass_speedup` in results/spine.json.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from benchmarks.naive_ladd import NaiveLADD
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fewstep import claims
from fewstep.data.batches import Batch
from fewstep.families.base import Backbone, Cond
from fewstep.methods.base import Method
from fewstep.methods.ladd import LADD, LADDConfig
from fewstep.nets.heads import Heads, HeadsConfig
from fewstep.rng import Rng
from fewstep.runs import environment
from fewstep.shapes import Latent, Sigma, Tokens

GOAL = ">= 1.3"


class TinyZImage(Backbone):
    """A Z-Image transformer of any size with random weights, in the project's convention."""

    def __init__(self, *, dim: int, depth: int, channels: int, seed: int) -> None:
        super().__init__()
        self.depth, self.width, self.cond_width = depth, dim, 32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.transformer = ZImageTransformer2DModel(
                all_patch_size=(2,), all_f_patch_size=(1,), in_channels=channels, dim=dim,
                n_layers=depth, n_refiner_layers=1, n_heads=4, n_kv_heads=4,
                cap_feat_dim=self.cond_width, axes_dims=[dim // 8, dim // 16, dim // 16],
                axes_lens=[256, 64, 64],
            )  # fmt: skip
            # Zero pad tokens sit on the singularity of RMSNorm, where gradients explode.
            nn.init.normal_(self.transformer.x_pad_token, std=0.02)
            nn.init.normal_(self.transformer.cap_pad_token, std=0.02)

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        images = [row[:, None] for row in x]
        out = self.transformer(images, 1 - sigma, list(cond.tokens), return_dict=False)[0]
        return -torch.stack(list(out))[:, :, 0]

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        rows, columns = self.token_grid(x)
        found: dict[int, Tensor] = {}

        def tap(layer: int) -> RemovableHandle:
            def keep(_module: nn.Module, _inputs: object, tokens: Tensor) -> None:
                found[layer] = tokens[:, : rows * columns]

            return self.transformer.layers[layer].register_forward_hook(keep)

        hooks = [tap(layer) for layer in layers]
        self(x, sigma, cond)
        for hook in hooks:
            hook.remove()
        return [found[i] for i in layers]

    def token_grid(self, x: Latent) -> tuple[int, int]:
        return x.shape[2] // 2, x.shape[3] // 2


def tiny_ladd(*, dim: int = 32, depth: int = 2, channels: int = 4, student_every: int = 1) -> LADD:
    """LADD on a tiny Z-Image, heads on every second block and the last."""
    cfg = LADDConfig(
        layers=tuple(range(1, depth, 2)),
        heads=HeadsConfig(hidden=32, embed=32),
        student_every=student_every,
        warmup_steps=0,
    )
    teacher = TinyZImage(dim=dim, depth=depth, channels=channels, seed=0).requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    heads = Heads(cfg.heads, width=dim, cond_width=32, count=len(cfg.layers), seed=0)
    return LADD(cfg, student=student, teacher=teacher, heads=heads)


def random_batch(step: int, *, b: int, size: int, channels: int) -> Batch:
    ids = tuple(f"{step}-{i}" for i in range(b))
    rng = Rng(0, step, "data", ids)
    return Batch(ids=ids, x0=rng.randn(channels, size, size), cond=Cond(tuple(rng.randn(32, 32))))


@dataclass
class Runner:
    """One of the two training runs: what the loop does, with a stop watch and counters."""

    method: Method
    ladd: LADD
    seconds: list[float] = field(default_factory=list)
    forwards: Counter[str] = field(default_factory=Counter)
    grads: dict[str, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optims = {
            "heads": torch.optim.AdamW(self.ladd.heads.parameters(), 1e-4),
            "student": torch.optim.AdamW(self.ladd.student.parameters(), 1e-5),
        }
        for name, module in (("student", self.ladd.student), ("teacher", self.ladd.teacher)):
            module.register_forward_hook(lambda *_, name=name: self.forwards.update([name]))

    def step(self, step: int, batch: Batch) -> None:
        start = time.perf_counter()
        for phase in self.method.phases(step):
            optim = self.optims[phase.name]
            optim.zero_grad()
            loss, _ = phase.loss(batch, Rng(0, step, phase.name, batch.ids))
            weights = list(phase.module.parameters())
            loss.backward(inputs=weights)
            self.grads[phase.name] = [p.grad for p in weights if p.grad is not None]
            optim.step()
            phase.after()
        self.seconds.append(time.perf_counter() - start)


def pair(**sizes: int) -> tuple[Runner, Runner]:
    """The one-pass run and the naive run, from equal weights."""
    one, other = tiny_ladd(**sizes), tiny_ladd(**sizes)
    return Runner(one, one), Runner(NaiveLADD(other, seed=0), other)


def largest_difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


def speedup(naive: Sequence[float], one: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of total times and its 95 % interval, by bootstrap over the interleaved pairs."""
    times = np.array([naive, one])
    rows = np.random.default_rng(0).integers(0, times.shape[1], (10_000, times.shape[1]))
    draws = times[0][rows].sum(1) / times[1][rows].sum(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(times[0].sum() / times[1].sum()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description="One-pass against naive LADD.")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of each run")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--student-every", type=int, default=1)
    parser.add_argument("--results", type=Path, help="folder to write the record to")
    args = parser.parse_args()
    torch.set_num_threads(1)

    one, naive = pair(dim=128, depth=6, channels=8, student_every=args.student_every)
    warm, worst = 2 * args.student_every, 0.0
    for step in range(warm + args.steps):
        batch = random_batch(step, b=args.batch, size=16, channels=8)
        for runner in (one, naive) if step % 2 else (naive, one):
            runner.step(step, batch)
        for name, found in one.grads.items():
            worst = max(worst, largest_difference(found, naive.grads[name]))
    weights = largest_difference(
        [p.detach() for p in one.ladd.student.parameters()],
        [p.detach() for p in naive.ladd.student.parameters()],
    )
    ratio, low, high = speedup(naive.seconds[warm:], one.seconds[warm:])
    steps = warm + args.steps
    per_step = {
        name: {role: n / steps for role, n in sorted(runner.forwards.items())}
        for name, runner in (("one pass", one), ("naive", naive))
    }
    print(f"largest difference of a gradient {worst}, of a weight after {steps} steps {weights}")
    print(f"forwards in a step: {per_step}")
    print(f"seconds a step: {np.mean(one.seconds[warm:]):.3f} against "
          f"{np.mean(naive.seconds[warm:]):.3f}")  # fmt: skip
    print(f"speed-up {ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}, {args.steps} pairs")
    if args.results is None:
        return
    if args.student_every != 1:
        raise SystemExit("the record is of a step on which the student moves: --student-every 1")
    found = environment()
    claim = claims.Claim(
        id="spine.one_pass_speedup",
        claim="wall time of the naive LADD step over the one-pass step (student moves)",
        value=ratio, low=low, high=high, n=args.steps, unit="x",
        goal=GOAL, met=claims.verdict(ratio, GOAL),
        command=f"OMP_NUM_THREADS=1 python -m benchmarks.one_pass --steps {args.steps} "
        f"--batch {args.batch} --results results",
        hardware=f"{found['cpu']}, 1 thread",
        versions={"python": found["python"], **found["versions"]},
        date=datetime.now(UTC).date().isoformat(),
        note=f"n = interleaved pairs of steps; largest gradient difference {worst}; "
        f"forwards in a step {per_step}",
    )  # fmt: skip
    print(f"wrote {claims.write([claim], 'spine', args.results)}")


if __name__ == "__main__":
    main()
