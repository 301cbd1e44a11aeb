"""The teacher over steps and guidance: adherence, KID, layout diversity, sharpness.

    OMP_NUM_THREADS=1 python -m benchmarks.teacher --engine fused [--part 0/2]

Every cell of steps x w draws the same validation prompts and seeds, and chooses: the best w at full
steps is the one with the highest adherence. What is claimed of it, and of 4 steps without guidance,
comes from more pictures of test prompts, so that the choice cannot flatter it; layout diversity
comes from fewer prompts with more seeds. Two rows bound the claims: true pictures of other seeds,
and these passed through the autoencoder, whose losses no sampler can undo.

Writes results/tables/teacher.json, docs/teacher.md, docs/figures/teacher_steps.png and the records
spine.teacher_adherence, spine.teacher_layout_diversity, spine.teacher_4step_adherence_drop. What
was drawn is kept in runs/studies/measured: the same command goes on where it was stopped. With
--part i/n it only draws every n-th cell of the table; then run it without.

With --engine fused a picture takes 14 ms of one CPU thread and 3.3 ms a call: 5 minutes for the
table (425 calls for each of 192 pictures), 5 for the claims (20 steps), 2 for truth.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence

from benchmarks import common, pages
from benchmarks.common import Roots, claim
from benchmarks.pages import percent, shown
from benchmarks.teacher_table import FEW, FULL, Cell, Claimed, Metrics, Table, best

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.models import load_family
from fewstep.worlds.shapes.judge import PARTS
from fewstep.worlds.shapes.world import Shapes


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="The teacher over steps and guidance.")
    common.add_common(parser)
    parser.set_defaults(prompts=96, seeds=2)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, FEW, 8, 20, 50])
    parser.add_argument("--guidance", type=float, nargs="+", default=[1, 2, 3])
    parser.add_argument("--full", type=int, nargs="+", default=FULL, help="full step counts")
    parser.add_argument("--claim-prompts", type=int, default=200, help="test prompts of the claims")
    parser.add_argument("--claim-seeds", type=int, default=4)
    parser.add_argument("--layout-prompts", type=int, default=96, help="of the layout diversity")
    parser.add_argument("--layout-seeds", type=int, default=8)
    parser.add_argument("--part", type=common.part, help="i/n: draw every n-th cell, write nothing")
    args = parser.parse_args(words)
    if not set(args.full) & set(args.steps):
        parser.error(f"--steps must hold one of {args.full}")
    where = common.roots(args)
    world = Shapes()
    family = load_family(args.model, common.few_threads(args.threads), engine=args.engine)

    def on(split: str, prompts: int, seeds: int) -> Table:
        told = dict.fromkeys(world.prompts(split, prompts))
        return Table(family, world, list(told), seeds, args)

    table = on("val", args.prompts, args.seeds)
    cells = sorted((Cell(s, w) for s in args.steps for w in args.guidance), key=lambda c: c.calls)
    if args.part:
        index, count = args.part
        for cell in cells[index::count]:
            table.draw(cell)
        return 0
    found = {cell: table.metrics(table.draw(cell)) for cell in cells}
    chosen = [best(found, steps) for steps in args.full if steps in args.steps]
    claimed = Claimed.measure(
        max(chosen, key=lambda c: found[c]["adherence"].value),
        on("test", args.claim_prompts, args.claim_seeds),
        on("test", args.layout_prompts, args.layout_seeds),
    )
    command = f"python -m benchmarks.teacher {shlex.join(words)}".strip()
    made = common.facts(command, args.threads)
    record = {
        "schema": 2, **made, "engine": args.engine,
        "table": [
            {"name": c.name, "steps": c.steps, "guidance": c.w, "calls": c.calls, "split": "val",
             "spec": table.spec(c).to_json(), "metrics": as_json(m)}
            for c, m in found.items()
        ],
        "best": {c.steps: c.w for c in chosen},
        "claimed": [
            {"name": name, "split": "test", "metrics": as_json(m)}
            for name, m in claimed.rows.items()
        ],
        "adherence_drop": claimed.drop.to_json(),
    }  # fmt: skip
    common.write_json(where.results / "tables" / "teacher.json", record)
    plot(found, claimed, where)
    pages.write_text(where.docs / "teacher.md", command, page(found, chosen, claimed))
    claims.write(records(claimed, made), "spine", where.results)
    adherence = claimed.rows[claimed.full.name]["adherence"]
    print(f"wrote {where.docs / 'teacher.md'}; best at full steps: {claimed.full.name}, "
          f"adherence on test prompts {percent(adherence)}")  # fmt: skip
    return 0


def as_json(metrics: Metrics) -> dict[str, object]:
    return {key: value.to_json() for key, value in metrics.items()}


def records(claimed: Claimed, made: Mapping) -> list[claims.Claim]:
    full = claimed.full.name
    a, b = claimed.rows[full], claimed.rows[Cell(FEW, 1).name]
    kid = f"KID {a['kid'].value:.3g} at {full}, {b['kid'].value:.3g} at {Cell(FEW, 1).name}"

    def note(e: Estimate) -> str:
        return f"n = test prompts, {e.n_seeds} pictures each; w chosen on validation prompts"

    def stated(name: str, text: str, e: Estimate, goal: str, more: str = "") -> claims.Claim:
        return claim(name, text, e, made=made, n=e.n_prompts, goal=goal, note=note(e) + more)

    return [
        stated("teacher_adherence", f"share of pictures fully right, teacher, {full}",
               a["adherence"], ">= 0.95"),
        stated("teacher_layout_diversity",
               f"layout diversity relative to the truth, teacher, {full}",
               a["layout_diversity"], "0.9 to 1.1"),
        stated("teacher_4step_adherence_drop",
               f"adherence of the teacher, {full}, minus {FEW} steps (no guidance), paired",
               claimed.drop, ">= 0.15", f"; {kid}"),
    ]  # fmt: skip


def page(found: Mapping[Cell, Metrics], chosen: Sequence[Cell], claimed: Claimed) -> str:
    def row(name: str, m: Metrics) -> list[str]:
        a = m["adherence"]
        return [name, percent(a), shown(m["kid"]), shown(m["layout_diversity"]),
                shown(m["sharpness"]), f"{a.n_prompts} x {a.n_seeds}"]  # fmt: skip

    columns = ["", "adherence", "KID", "layout diversity", "sharpness", "prompts x seeds"]
    cells = sorted(found, key=lambda c: (c.steps, c.w))
    bold = {c: f"**{c.name}**" if c in chosen else c.name for c in cells}
    rows = [[bold[c], str(c.calls), *row("", found[c])[1:]] for c in cells]
    own = [row(name, m) for name, m in claimed.rows.items()]
    rights = list(claimed.rows.values())
    asked = [part for part in PARTS if f"adherence_{part}" in rights[0]]
    wrong = [part for part in asked if any(m[f"adherence_{part}"].value < 1 for m in rights)]
    parts = [
        [name, *(percent(m[f"adherence_{part}"]) for part in wrong)]
        for name, m in claimed.rows.items()
    ]
    layouts = claimed.rows[claimed.full.name]["layout_diversity"]
    return (
        "# The teacher over steps and guidance\n\n"
        "Adherence: share of pictures in which everything asked is right. KID: distance to true "
        "pictures. Layout diversity and sharpness are relative to the truth. Brackets hold 95 % "
        "intervals (bootstrap over prompts). w = 1 is no guidance, and a step with guidance is two "
        "calls. Full is 20 steps, fixed beforehand: 50 are not better beyond the intervals."
        "\n\n## What is claimed\n\nTest prompts, which chose nothing. The teacher's layout "
        f"diversity comes from {layouts.n_prompts} prompts x {layouts.n_seeds} seeds.\n\n"
        + pages.markdown(columns, own)
        + "\nWhat is right in the pictures, of what is ever wrong; a part is judged on the prompts "
        "that ask for it.\n\n"
        + pages.markdown(["", *wrong], parts)
        + "\n## What chose it\n\nValidation prompts. Bold: the w with the highest adherence at "
        "full steps.\n\n![Adherence and KID over steps](figures/teacher_steps.png)\n\n"
        + pages.markdown(["", "calls", *columns[1:]], rows)
    )


def plot(found: Mapping[Cell, Metrics], claimed: Claimed, where: Roots) -> None:
    floor = claimed.rows["truth through the autoencoder"]
    panels = (("adherence", "adherence"), ("kid", "KID"))
    with pages.figure(where.docs / "figures" / "teacher_steps.png", 2) as axes:
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
