"""The teacher over steps and guidance: adherence, KID, layout diversity, sharpness.

    OMP_NUM_THREADS=1 python -m benchmarks.teacher [--part 0/2]

Every cell of steps x w draws the same test prompts and seeds. The best w at full steps is chosen by
adherence; what is then claimed of it comes from other test prompts, so that the choice cannot
flatter it. Two rows bound the table: true pictures of other seeds, and these passed through the
autoencoder, whose losses no sampler can undo.

Writes results/tables/teacher.json, docs/teacher.md, docs/figures/teacher_steps.png and the records
spine.teacher_adherence, spine.teacher_layout_diversity, spine.teacher_4step_adherence_drop. Each
cell is kept in runs/studies/measured: the same command goes on where it was stopped. With --part
i/n it only draws every n-th cell; then run it without. About 1,000 model calls a picture for the
whole table: an hour and a half on one CPU thread (6 ms a call), an hour with --engine fused.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from benchmarks import common
from benchmarks.common import Roots, claim, drawn, head, percent, shown, weights_of

from fewstep import claims
from fewstep.evaluate.generate import GenerationSpec
from fewstep.evaluate.statistics import Estimate
from fewstep.evaluate.suite import Measures, compare, evaluate
from fewstep.experiment.builder import load_family
from fewstep.families.zimage import ZImage
from fewstep.worlds.shapes.judge import PARTS
from fewstep.worlds.shapes.world import Shapes

FULL = (20, 50)
"""Step counts that count as full."""
FEW = 4
OTHER_SEEDS = 1_000_000
"""Added to the seeds of true pictures that are compared with the truth."""

Metrics = Mapping[str, Estimate]


@dataclass(frozen=True)
class Cell:
    steps: int
    w: float

    @property
    def name(self) -> str:
        return f"{self.steps} step{'s' * (self.steps > 1)}, w = {self.w:g}"

    @property
    def calls(self) -> int:
        return self.steps * (1 if self.w == 1 else 2)


class Table:
    """Draws cells on one set of prompts."""

    def __init__(
        self, family: ZImage, world: Shapes, prompts: Sequence[str], args: argparse.Namespace
    ) -> None:
        self.family, self.world, self.prompts, self.args = family, world, tuple(prompts), args
        self.seeds = tuple(range(args.seeds))
        self.fingerprint = family.fingerprint()
        self.folder = common.roots(args).measured

    def spec(self, cell: Cell, n: int | None = None) -> GenerationSpec:
        return GenerationSpec(
            model=cell.name, fingerprint=self.fingerprint, prompts=self.prompts[:n],
            seeds=self.seeds, sigmas=self.family.sigmas(cell.steps), guidance=cell.w,
        )  # fmt: skip

    def size(self, cell: Cell) -> int | None:
        """How many prompts a cell gets: fewer where it is expensive and that was asked for."""
        return self.args.reduced_prompts if cell.calls > self.args.reduced_calls else None

    def draw(self, cell: Cell) -> Measures:
        a = self.args
        spec = self.spec(cell, self.size(cell))
        return drawn(
            self.folder, self.family, spec, self.world, engine=a.engine, batch=a.batch
        ).measures

    def true(self, what: str, offset: int = 0) -> Measures:
        """True pictures; "decoded" ones went through the autoencoder."""
        seeds = [seed + offset for seed in self.seeds]

        def images():
            asked = [p for p in self.prompts for _ in seeds]
            pictures = self.world.truth(asked, seeds * len(self.prompts))
            if what == "decoded":
                batches = pictures.split(self.args.batch)
                encode, decode = self.family.encode_image, self.family.decode
                pictures = torch.cat([decode(encode(b)) for b in batches])
            return pictures

        key = {"true": what, "seeds": seeds, "prompts": list(self.prompts)}
        if what == "decoded":
            key["fingerprint"] = self.fingerprint
        return common.seen(self.folder, key, images, self.prompts, self.seeds, self.world).measures

    def metrics(self, m: Measures) -> Metrics:
        n = len(m.prompts)
        return evaluate(m, head(self.true("truth"), n), weights_of(n))


def best(found: Mapping[Cell, Metrics], steps: int) -> Cell:
    """The w with the highest adherence at so many steps; the lower KID breaks a tie."""
    own = [cell for cell in found if cell.steps == steps]
    return max(own, key=lambda c: (found[c]["adherence"].value, -found[c]["kid"].value))


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="The teacher over steps and guidance.")
    common.add_common(parser)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, FEW, 8, 20, 50])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 2, 3, 4, 5, 7])
    parser.add_argument("--full", type=int, nargs="+", default=FULL, help="full step counts")
    parser.add_argument("--reduced-prompts", type=int, help="prompts of the expensive cells")
    parser.add_argument("--reduced-calls", type=int, default=40, help="calls above which they are")
    parser.add_argument("--part", type=common.part, help="i/n: draw every n-th cell, write nothing")
    args = parser.parse_args(words)
    if FEW not in args.steps or not set(args.full) & set(args.steps) or 1 not in args.guidance:
        parser.error(f"--steps must hold {FEW} and one of {args.full}, --guidance must hold 1")
    where = common.roots(args)
    world = Shapes()
    family = load_family(args.model, common.few_threads(args.threads), engine=args.engine)
    everything = list(dict.fromkeys(world.prompts("test", 2 * args.prompts)))
    table = Table(family, world, everything[: args.prompts], args)
    cells = sorted((Cell(s, w) for s in args.steps for w in args.guidance), key=lambda c: c.calls)
    if args.part:
        index, count = args.part
        for cell in cells[index::count]:
            table.draw(cell)
        return 0
    found = {cell: table.metrics(table.draw(cell)) for cell in cells}
    bounds = {
        "truth, other seeds": table.metrics(table.true("truth", OTHER_SEEDS)),
        "truth through the autoencoder": table.metrics(table.true("decoded", OTHER_SEEDS)),
    }
    chosen = [best(found, steps) for steps in args.full if steps in args.steps]
    full = max(chosen, key=lambda c: found[c]["adherence"].value)
    few = Cell(FEW, 1)
    fresh = Table(family, world, everything[args.prompts :], args)
    ours, theirs = fresh.draw(full), fresh.draw(few)
    n = len(ours.prompts)
    confirmed = {full: fresh.metrics(ours), few: fresh.metrics(theirs)}
    truth = head(fresh.true("truth"), n)
    drop = compare(ours, head(theirs, n), truth, weights_of(n))["adherence"]

    command = f"python -m benchmarks.teacher {shlex.join(words)}".strip()
    made = common.facts(command, args.threads)
    record = {
        "schema": 1, **made, "split": "test",
        "rows": [
            {"name": c.name, "steps": c.steps, "guidance": c.w, "calls": c.calls,
             "spec": table.spec(c, table.size(c)).to_json(), "metrics": as_json(m)}
            for c, m in found.items()
        ] + [{"name": name, "metrics": as_json(m)} for name, m in bounds.items()],
        "best": {c.steps: c.w for c in chosen},
        "other_prompts": [
            {"name": c.name, "spec": fresh.spec(c, fresh.size(c)).to_json(), "metrics": as_json(m)}
            for c, m in confirmed.items()
        ],
        "adherence_drop": drop.to_json(),
    }  # fmt: skip
    common.write_json(where.results / "tables" / "teacher.json", record)
    plot(found, bounds, where)
    common.write_text(where.docs / "teacher.md", command, page(found, bounds, chosen, confirmed))
    claims.write(records(full, few, confirmed, drop, made), "spine", where.results)
    print(f"wrote {where.docs / 'teacher.md'}; best at full steps: {full.name}, "
          f"adherence on other prompts {percent(confirmed[full]['adherence'])}")  # fmt: skip
    return 0


def as_json(metrics: Metrics) -> dict[str, object]:
    return {key: value.to_json() for key, value in metrics.items()}


def records(
    full: Cell, few: Cell, confirmed: Mapping[Cell, Metrics], drop: Estimate, made: Mapping
) -> list[claims.Claim]:
    a, b = confirmed[full], confirmed[few]
    n = a["adherence"].n_prompts
    note = f"n = prompts, {a['adherence'].n_seeds} pictures each; w chosen on other test prompts"
    kid = f"KID {a['kid'].value:.3g} at {full.name}, {b['kid'].value:.3g} at {few.name}"
    return [
        claim("teacher_adherence", f"share of pictures fully right, teacher, {full.name}",
              a["adherence"], made=made, n=n, goal=">= 0.95", note=note),
        claim("teacher_layout_diversity",
              f"layout diversity relative to the truth, teacher, {full.name}",
              a["layout_diversity"], made=made, n=n, goal="0.9 to 1.1", note=note),
        claim("teacher_4step_adherence_drop",
              f"adherence of the teacher, {full.name}, minus {few.name} (no guidance), paired",
              drop, made=made, n=drop.n_prompts, goal=">= 0.15", note=f"{note}; {kid}"),
    ]  # fmt: skip


def page(
    found: Mapping[Cell, Metrics], bounds: Mapping[str, Metrics], chosen: Sequence[Cell],
    confirmed: Mapping[Cell, Metrics],
) -> str:  # fmt: skip
    def row(name: str, calls: str, m: Metrics) -> list[str]:
        a = m["adherence"]
        return [name, calls, percent(a), shown(m["kid"]), shown(m["layout_diversity"]),
                shown(m["sharpness"]), f"{a.n_prompts} x {a.n_seeds}"]  # fmt: skip

    columns = ["", "calls", "adherence", "KID", "layout diversity", "sharpness", "prompts x seeds"]
    cells = sorted(found, key=lambda c: (c.steps, c.w))
    rows = [row(f"{'**' * (c in chosen)}{c.name}{'**' * (c in chosen)}", str(c.calls), found[c])
            for c in cells]  # fmt: skip
    rows += [row(name, "", m) for name, m in bounds.items()]
    again = [row(c.name, str(c.calls), m) for c, m in confirmed.items()]
    parts = [
        [name, *(percent(m[f"adherence_{part}"]) for part in PARTS)]
        for name, m in {**{c.name: m for c, m in confirmed.items()}, **bounds}.items()
    ]
    return (
        "# The teacher over steps and guidance\n\n"
        "Adherence: share of pictures in which everything asked is right. KID: distance to true "
        "pictures. Layout diversity and sharpness are relative to the truth. Brackets hold 95 % "
        "intervals (bootstrap over prompts). w = 1 is no guidance, and a step with guidance is two "
        "calls.\n\n![Adherence and KID over steps](figures/teacher_steps.png)\n\n"
        + common.markdown(columns, rows)
        + "\nBold: the w with the highest adherence at full steps. On other test prompts, so that "
        "the choice cannot flatter it:\n\n"
        + common.markdown(columns, again)
        + "\nWhat is right in the pictures:\n\n"
        + common.markdown(["", *PARTS], parts)
    )


def plot(found: Mapping[Cell, Metrics], bounds: Mapping[str, Metrics], where: Roots) -> None:
    floor = bounds["truth through the autoencoder"]
    panels = (("adherence", "adherence"), ("kid", "KID"))
    with common.figure(where.docs / "figures" / "teacher_steps.png", 2) as axes:
        for ax, (key, label) in zip(axes, panels, strict=True):
            for w in sorted({c.w for c in found}):
                line = sorted((c for c in found if c.w == w), key=lambda c: c.steps)
                x, e = [c.steps for c in line], [found[c][key] for c in line]
                ax.plot(x, [v.value for v in e], marker="o", label=f"w = {w:g}")
                if key == "adherence":
                    ax.fill_between(x, [v.low for v in e], [v.high for v in e], alpha=0.12, lw=0)
            ax.axhline(floor[key].value, color="#70767f", ls=":", label="autoencoder alone")
            ax.set_xscale("log")
            ax.set_xticks(sorted({c.steps for c in found}))
            ax.get_xaxis().set_major_formatter("{x:g}")
            ax.minorticks_off()
            ax.set_xlabel("steps")
            ax.set_ylabel(label)
        axes[1].set_yscale("log", nonpositive="clip")  # a KID near 0 may be estimated below it
        axes[1].legend()


if __name__ == "__main__":
    raise SystemExit(main())
