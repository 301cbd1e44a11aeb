"""What each change to a step costs or saves, and what it does to gradients: one table.

    OMP_NUM_THREADS=1 python -m benchmarks.changes [--rounds 12] [--only engine]

Each row has two ways of the same work, which go in turn from equal weights: time is that of the
first over that of the second, so more than one is a gain. On a CPU the work is a step of LADD on
Shapes, on a GPU of a LoRA on Z-Image at its full size with random weights. Checkpoints and drawing
have scripts of their own. Writes results/bench/changes_SIZE.json and docs/step_changes.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks import pages
from benchmarks.large import Case, Ready, add_options, chosen, made_by, ready, seconds, told
from benchmarks.memory import at
from benchmarks.naive_ladd import NaiveLADD
from benchmarks.one_pass import speedup
from benchmarks.pages import shown
from benchmarks.step import BOTH, far, gradients, middle
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.flow import path
from fewstep.methods.ladd import LADD
from fewstep.rng import Rng
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import accumulate, run_step

Work = Callable[[], object]
PLAIN: dict[str, Any] = {"engine": "plain"}
STUDENT = "optim.student"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Two ways of the same work."""

    name: str
    before: Work
    after: Work
    apart: float
    """Relative difference in norm: of gradients, of features, or of how far an update leads."""


def base_of(size: str) -> Case:
    if size == "zimage":
        return Case(name="base", recipe="ladd_zimage_lora_24gb",
                    changes={**at(512, 4), "recompute": False})  # fmt: skip
    return Case(name="base", recipe="ladd_shapes_demo", changes=PLAIN)


def settings(size: str) -> dict[str, dict[str, Any]]:
    """Rows that are a setting of the experiment."""
    packed = {f"frozen {kind}": {"frozen": kind} for kind in ("int8", "float8", "nf4")}
    again = {
        "recompute": {"recompute": True},
        "recompute, half of the blocks": {"recompute": True, "recompute_share": 0.5},
    }
    engines = {f"engine {name}": {"engine": name} for name in ("fused", "compiled")}
    return {**(engines if size == "shapes" else {}), **again, **packed}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="Each change to a step, alone.")
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=12, help="of each pair that are timed")
    parser.add_argument("--only", help="rows whose name contains this")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args(words)
    size, device = chosen(args)
    rows = []
    for name, make in rows_of(size, device).items():
        if args.only is None or args.only in name:
            rows.append(measured(make(), args.rounds, device))
            print(f"{name}: {rows[-1]}", flush=True)
    command = f"python -m benchmarks.changes {shlex.join(words)}".strip()
    facts = made_by(command, device)
    told("changes", size, {**facts, "size": size, "rounds": args.rounds, "rows": rows},
         args.results)  # fmt: skip
    table = pages.markdown(["change", "seconds before", "before over after", "apart"], [
        [r["name"], f"{middle(r['times']['before']):.2g}", r["shown"], f"{r['apart']:.1g}"]
        for r in rows
    ])  # fmt: skip
    print(table)
    pages.write_text(args.docs / "step_changes.md", command, page(facts, table, args.rounds))
    return 0


def page(facts: Mapping[str, Any], table: str, rounds: int) -> str:
    said = (
        f"{facts['hardware']}; {rounds} rounds in turn from equal weights, ratios of total times "
        "with 95 % intervals (bootstrap over rounds). More than one is a gain.",
        "The last column is how far apart the two ways are, relative and in norm: in the gradients "
        "of what trains; in where updates lead; in the features of a pass. Packed layers are "
        "rounded weights, so their gradients are those of another teacher; they, blocks that are "
        "computed again and weights and moments in few bytes are there for memory. An update "
        "stands alone in its row, and is a small part of a step.",
    )
    return "\n\n".join(("# What each change to a step does, alone", *said, table))


def measured(row: Row, rounds: int, device: torch.device) -> dict[str, Any]:
    """After two of each that do not count: a compiler works in the first."""
    times: dict[str, list[float]] = {"before": [], "after": []}
    works = {"before": row.before, "after": row.after}
    for i in range(rounds + 2):
        for way in ("before", "after") if i % 2 else ("after", "before"):
            took = seconds(works[way], device)
            if i >= 2:
                times[way].append(took)
    ratio = speedup(times["before"], times["after"], 1)
    return {"name": row.name, "ratio": ratio.to_json(), "shown": shown(ratio), "times": times,
            "apart": row.apart}  # fmt: skip


def rows_of(size: str, device: torch.device) -> dict[str, Callable[[], Row]]:
    """By name, each with models of its own, which are gone when it is."""
    base = partial(ready, base_of(size), size, device)

    def setting(name: str, change: Mapping[str, Any]) -> Row:
        plain, case = base(), base_of(size)
        other = ready(replace(case, name=name, changes={**case.changes, **change}), size, device)
        step = plain.step_of(BOTH)
        return Row(
            name=name, before=lambda: plain.step(step), after=lambda: other.step(step),
            apart=far(gradients(plain), gradients(other)),
        )  # fmt: skip

    found: dict[str, Callable[[], Row]] = {
        "one pass for the fakes of both phases": lambda: one_pass(base()),
        "fakes without a graph where the student rests": lambda: no_graph(base()),
        "a pass of the teacher ends at the deepest tap": lambda: early_exit(base()),
        "real and fake in one pass of the teacher (not built)": lambda: one_batch(base()),
        "samples of one length in one micro-batch": lambda: alike(base()),
        "text refined once for all passes (not built)": lambda: refined(base()),
    }
    found |= {name: partial(setting, name, change) for name, change in settings(size).items()}
    return found | {
        name: partial(update, name, change, base())
        for name, change in {
            "update of weights kept exact": {"weights": "exact"},
            "update of weights kept stochastic": {"weights": "stochastic"},
            "update with 8-bit moments": {"moments": "8bit"},
            "update with moments in main memory": {"offload": True},
        }.items()
    }


def ladd_of(it: Ready) -> LADD:
    assert isinstance(it.method, LADD)
    return it.method


def one_pass(it: Ready) -> Row:
    naive, step = NaiveLADD(ladd_of(it), seed=0), it.step_of(BOTH)
    return Row(
        name="one pass for the fakes of both phases", before=lambda: it.step(step, naive),
        after=lambda: it.step(step), apart=far(gradients(it, naive), gradients(it)),
    )  # fmt: skip


def no_graph(it: Ready) -> Row:
    """The gradients of the heads in a step in which only they move."""
    ladd, optim = ladd_of(it), it.optims["heads"]
    rng = partial(Rng, 0, 0, "heads", it.batch.ids, it.device)

    def run(fakes: dict[Any, Any] | None) -> dict[str, Tensor]:
        loss, _ = ladd.heads_loss(it.batch, rng(), step=0, fakes=fakes)
        inputs = list(optim.parameters.values())
        found = torch.autograd.grad(loss, inputs)
        return dict(zip(optim.parameters, found, strict=True))

    return Row(
        name="fakes without a graph where the student rests", before=lambda: run({}),
        after=lambda: run(None), apart=far(run({}), run(None)),
    )  # fmt: skip


def teacher_input(it: Ready) -> tuple[Tensor, Tensor, Any]:
    batch = it.batch
    sigma = torch.full((len(batch),), 0.6, device=it.device)
    eps = torch.randn(batch.x0.shape, generator=torch.Generator().manual_seed(0)).to(it.device)
    return path.interpolate(batch.x0, eps, sigma), sigma, batch.cond


@torch.no_grad()
def early_exit(it: Ready) -> Row:
    """Features of four fifths of the blocks, as Z-Image's recipes have them."""
    teacher, (x, sigma, cond) = ladd_of(it).teacher, teacher_input(it)
    layers = sorted({max(0, round(share * teacher.depth) - 1) for share in (0.2, 0.4, 0.6, 0.8)})

    @torch.no_grad()
    def whole() -> list[Tensor]:
        seen: dict[int, Tensor] = {}
        blocks = it.families[0].pipeline.transformer.layers
        hooks = [
            blocks[i].register_forward_hook(lambda _m, _i, out, i=i: seen.__setitem__(i, out))
            for i in layers
        ]
        teacher(x, sigma, cond)
        for hook in hooks:
            hook.remove()
        rows, columns = teacher.token_grid(x)
        return [seen[i][:, : rows * columns].float() for i in layers]

    @torch.no_grad()
    def left() -> list[Tensor]:
        return teacher.features(x, sigma, cond, layers)

    return Row(name=f"a pass of the teacher ends at the deepest tap, block {layers[-1] + 1} of "
               f"{teacher.depth}", before=whole, after=left,
               apart=far(listed(whole()), listed(left())))  # fmt: skip


def one_batch(it: Ready) -> Row:
    ladd, (x, sigma, cond) = ladd_of(it), teacher_input(it)
    layers = ladd.cfg.layers

    @torch.no_grad()
    def apart() -> list[Tensor]:
        two = [ladd.teacher.features(each, sigma, cond, layers) for each in (x, it.batch.x0)]
        return [torch.cat(pair) for pair in zip(*two, strict=True)]

    rows = list(range(len(it.batch)))

    @torch.no_grad()
    def together() -> list[Tensor]:
        both = torch.cat([x, it.batch.x0])
        return ladd.teacher.features(both, sigma.repeat(2), cond[rows + rows], layers)

    return Row(name="real and fake in one pass of the teacher (not built)", before=apart,
               after=together, apart=far(listed(apart()), listed(together())))  # fmt: skip


def refined(it: Ready) -> Row:
    """What remembering the text's refiner could spare at the most: a pass with it gone."""
    teacher, (x, sigma, cond) = ladd_of(it).teacher, teacher_input(it)
    transformer = it.families[0].pipeline.transformer
    kept = transformer.context_refiner

    @torch.no_grad()
    def run(blocks: nn.ModuleList) -> Tensor:
        transformer.context_refiner = blocks
        try:
            return teacher(x, sigma, cond)
        finally:
            transformer.context_refiner = kept

    return Row(name="text refined once for all passes (not built; at the most)",
               before=lambda: run(kept), after=lambda: run(nn.ModuleList()),
               apart=far(listed([run(kept)]), listed([run(nn.ModuleList())])))  # fmt: skip


def parts_of(batch: Batch, size: int) -> Iterator[Batch]:
    for i in range(0, len(batch), size):
        rows = list(range(len(batch)))[i : i + size]
        yield replace(batch, ids=batch.ids[i : i + size], x0=batch.x0[rows], cond=batch.cond[rows])


def alike(it: Ready) -> Row:
    """Against micro-batches of two, as prompts of several lengths make them."""
    step, parts = it.step_of(BOTH), list(parts_of(it.batch, 2))

    def run(batches: Sequence[Batch]) -> None:
        run_step(it.method, batches, it.optims, {}, seed=0, step=step, device=it.device)
        it.optims["student"].first = it.optims["heads"].first = None

    def of(batches: Sequence[Batch]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for phase in it.method.phases(step):
            own = it.optims[phase.name]
            shares = [(b, len(b) / len(it.batch)) for b in batches]
            accumulate(phase, shares, list(own.parameters.values()), scale=1.0, seed=0, step=step,
                       device=it.device)  # fmt: skip
            found = {n: p.grad.float() for n, p in own.parameters.items() if p.grad is not None}
            own.zero_grad()
        return found

    return Row(name="samples of one length in one micro-batch", before=lambda: run(parts),
               after=lambda: run([it.batch]), apart=far(of(parts), of([it.batch])))  # fmt: skip


def update(name: str, change: Mapping[str, Any], it: Ready) -> Row:
    """Of all weights of the frozen model, by the gradient of a draw."""
    before, after = (Update(it, OptimConfig(lr=1e-4), c) for c in ({}, change))
    way = {n: after.moved(n) for n in after.start}
    return Row(name=name, before=before.step, after=after.step,
               apart=far({n: before.moved(n) for n in before.start}, way))  # fmt: skip


class Update:
    """An optimizer over a copy of the weights, which has made three updates."""

    def __init__(self, it: Ready, cfg: OptimConfig, change: Mapping[str, Any]) -> None:
        low = change.get("weights", "float32") != "float32"
        dtype = torch.bfloat16 if low else torch.float32
        named = dict(it.families[0].backbone.named_parameters())
        keys = {n: n.replace(".", "/") for n in named}
        self.start = {keys[n]: p.detach().bfloat16().float() for n, p in named.items()}
        self.module = nn.ParameterDict(
            {n: nn.Parameter(p.to(dtype, copy=True)) for n, p in self.start.items()}
        )
        self.optim = Optim(replace(cfg, **change), self.module, total=1000)
        draws = torch.Generator(it.device).manual_seed(0)
        self.gradients = {
            n: torch.randn(p.shape, generator=draws, device=p.device).to(dtype)
            for n, p in self.start.items()
        }
        for _ in range(3):
            self.step()

    def step(self) -> None:
        for name, p in self.module.items():
            p.grad = self.gradients[name].clone()
        self.optim.step(self.optim.norm())
        self.optim.first = None

    def moved(self, name: str) -> Tensor:
        return self.optim.adam.full(name, Tensor.detach).float() - self.start[name]


def listed(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {str(i): t for i, t in enumerate(tensors)}


if __name__ == "__main__":
    raise SystemExit(main())
