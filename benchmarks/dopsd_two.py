"""Two concepts one after the other: is the first kept?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import pages
from benchmarks.dopsd_plan import Task
from benchmarks.dopsd_rows import over_concepts
from benchmarks.pages import percent
from benchmarks.study_judge import Result


def second(tasks: Sequence[Task], results: Mapping[Task, Result]) -> list[dict[str, Any]]:
    """Of each second concept: its own success, and the first's before and after."""
    found: list[dict[str, Any]] = []
    for task in tasks:
        if task.first is None or task not in results or task.first not in results:
            continue
        own = results[task].views
        if own:
            found.append({
                "first": task.first.taught.name, "second": task.taught.name, "seed": task.seed,
                "held": task.held,
                "before": results[task.first].views["few"]["success"],
                "after": own["first"]["success"], "learnt": own["few"]["success"],
                "adherence_change": own["few"]["adherence_change"],
            })  # fmt: skip
    return found


def second_page(found: Sequence[Mapping[str, Any]]) -> str:
    columns = ("before", "after", "learnt", "adherence_change")
    lines, kept = [], ""
    for held, told in ((False, ""), (True, ", the first's prompts held")):
        rows = [row for row in found if row["held"] == held]
        for first, name in dict.fromkeys((row["first"], row["second"]) for row in rows):
            own = [row for row in rows if (row["first"], row["second"]) == (first, name)]
            means = [sum(row[c] for row in own) / len(own) for c in columns]
            percents = [f"{100 * x:.0f} %" for x in means]
            lines.append([f"{first}, then {name}{told}", str(len(own)), *percents])
        if rows:
            change = over_concepts(
                {(f"{r['first']} {r['second']}", r["seed"]): r["after"] - r["before"] for r in rows}
            )
            kept += f"\nThe first{told}, after minus before: {percent(change)}.\n"
    return (
        "\nTwo concepts one after the other, the second by a word of its own on the model that has "
        "learnt the first; the tether holds other prompts of the world, or the first's among "
        "them:\n\n"
        + pages.markdown(["", "runs", "first, before", "first, after", "second",
                          "adherence on test prompts, minus untouched"], lines)
        + kept
    )  # fmt: skip
