"""Where 200 real optimizer steps lead weights that are kept in few bytes.

    OMP_NUM_THREADS=1 python -m benchmarks.updates [--steps 200] [--lr 1e-5]

LADD on all weights trains by its own optimizers: Z-Image at full size on a GPU, Shapes on a CPU.
Beside it some of the student's weights are kept in every way, from the same start, and updated by
the gradients of that run: in float32; exact and stochastic (`train.adam`), with whole and with
8-bit moments; and as a bfloat16 that is rounded to the nearest, which the project refuses. How far
each has come is told of float32's way: cosine of the two, the share of that way, and the share of
weights that are another number than at the start. Whether the losses were finite and the average
moved is said too.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks import pages
from benchmarks.large import Case, Ready, add_options, chosen, made_by, ready, told
from benchmarks.memory import at
from torch import Tensor, nn

from fewstep.train.adam import Adam, MomentsName, WeightsName
from fewstep.train.optim import Optim

KEPT = 2048
"""Numbers of each parameter."""


@dataclass(frozen=True, kw_only=True)
class Way:
    weights: WeightsName
    moments: MomentsName = "float32"
    nearest: bool = False
    """Rounded to a bfloat16 after every update."""

    @property
    def name(self) -> str:
        if self.nearest:
            return "bfloat16, rounded to the nearest"
        return self.weights + (" weights, 8-bit moments" if self.moments == "8bit" else " weights")


WAYS = (
    Way(weights="float32"), Way(weights="exact"), Way(weights="exact", moments="8bit"),
    Way(weights="stochastic"), Way(weights="stochastic", moments="8bit"),
    Way(weights="float32", nearest=True),
)  # fmt: skip


class Shadow:
    """Some of the weights of a run, kept in one way."""

    def __init__(self, way: Way, start: dict[str, Tensor], optim: Optim) -> None:
        self.way = way
        dtype = torch.float32 if way.weights == "float32" else torch.bfloat16
        copies = {name: value.to(dtype, copy=True) for name, value in start.items()}
        self.parameters = {name: nn.Parameter(value) for name, value in copies.items()}
        cfg = optim.cfg
        self.adam = Adam(
            self.parameters, betas=cfg.betas, weight_decay=cfg.weight_decay, weights=way.weights,
            moments=way.moments, seed=0,
        )  # fmt: skip

    def step(self, gradients: dict[str, Tensor], lr: float, shrink: Tensor | None) -> None:
        for name, p in self.parameters.items():
            p.grad = gradients[name].to(p.dtype) if name in gradients else None
        self.adam.step(lr, shrink)
        if self.way.nearest:
            with torch.no_grad():
                for p in self.parameters.values():
                    p.copy_(p.bfloat16())

    @torch.no_grad()
    def weights(self) -> Tensor:
        return torch.cat([self.adam.full(n, torch.flatten).float() for n in self.parameters])


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Updates of weights in few bytes.")
    add_options(parser)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args(words)
    size, device = chosen(args)
    rates: dict[str, Any] = {
        "optim.student.lr": args.lr, "optim.student.warmup": 0, "loop.steps": args.steps,
        "optim.student.schedule": "constant", "method.student_every": 1, "method.heads_first": 0,
    }  # fmt: skip
    if size == "zimage":
        case = Case(name="", recipe="ladd_zimage_80gb", changes=at(512, args.batch) | rates)
    else:
        case = Case(name="", recipe="ladd_shapes_demo",
                    changes={"data.batch_size": args.batch, **rates})  # fmt: skip
    found = measured(ready(case, size, device), args.steps)
    command = f"python -m benchmarks.updates {shlex.join(words)}".strip()
    record = {**made_by(command, device), "recipe": case.recipe, "steps": args.steps,
              "lr": args.lr, "batch": args.batch, **found}  # fmt: skip
    told("updates", size, record, args.results)
    print(pages.markdown(["kept as", "cosine", "share of the way", "other numbers"], [
        [w["way"], f"{w['cosine']:.4f}", f"{w['way_made']:.1%}", f"{w['changed']:.1%}"]
        for w in found["ways"]
    ]))  # fmt: skip
    print(f"all losses finite; the average moved by {found['average_moved']:.1%} of float32's way")
    return 0


def measured(it: Ready, steps: int) -> dict[str, Any]:
    optim = it.optims["student"]
    start = {name: some(optim.adam.full(name, some).float()).clone() for name in optim.parameters}
    # from what all ways can be at the start
    start = {name: value.bfloat16().float() for name, value in start.items()}
    shadows = [Shadow(way, start, optim) for way in WAYS]
    real, ema = optim.step, it.method.modules.get("ema")
    before = flat_of(ema)

    def step(norm: Tensor) -> None:
        found = {n: some(p.grad).float() for n, p in optim.parameters.items() if p.grad is not None}
        clip = optim.cfg.clip
        shrink = None if clip is None else (clip / (norm + 1e-6)).clamp(max=1.0)
        lr = optim.lr
        for shadow in shadows:
            shadow.step(found, lr, shrink)
        real(norm)

    optim.step = step
    for i in range(steps):
        it.step(i)
    begun = torch.cat([start[name] for name in optim.parameters])
    ways = [shadow.weights() - begun for shadow in shadows]
    whole = ways[0]
    moved = float((flat_of(ema) - before).norm())
    own = torch.cat([some(optim.adam.full(n, some).float()) for n in optim.parameters])
    return {
        "weights": len(whole), "average_moved": moved / float((own - begun).norm()),
        "ways": [
            {"way": shadow.way.name,
             "cosine": float(nn.functional.cosine_similarity(way, whole, dim=0)),
             "way_made": float(way @ whole / (whole @ whole)),
             "changed": float((way != 0).float().mean())}
            for shadow, way in zip(shadows, ways, strict=True)
        ],
    }  # fmt: skip


def some(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    return flat[:: max(1, len(flat) // KEPT)][:KEPT]


def flat_of(module: nn.Module | None) -> Tensor:
    """Some numbers of an average."""
    each = [] if module is None else [some(p).float() for p in module.parameters()]
    return torch.cat(each) if each else torch.zeros(1)


if __name__ == "__main__":
    raise SystemExit(main())
