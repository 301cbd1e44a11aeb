"""The experiment as a whole: what it must not have seen, and what it differs in from another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fewstep.curation.clean import key
from fewstep.curation.leaks import Guard
from fewstep.curation.likeness import signatures
from fewstep.doctor.base import Finding, bad, good, not_here
from fewstep.doctor.patient import Patient
from fewstep.evaluate.grids import Column
from fewstep.experiment.prompts import evaluation_prompts, training_prompts, trains_on_prompts

ALIKE = 0.7
"""Jaccard index from which a prompt gives another one away, as in `fewstep prompts`."""


def given_away(texts: Sequence[str], against: Sequence[str]) -> Finding | None:
    """Prompts that are, or are nearly, or hold one of a benchmark; None where there is none."""
    keys = [key(text) for text in texts]
    guard = Guard([key(text) for text in against], ALIKE)
    if not against or not (found := guard.leaks(keys, signatures(keys))):
        return None
    first = found[0]
    return bad(
        f"{len(found)} prompts give away one of the benchmark: {texts[first.row]!r} "
        f"{against[first.evaluation]!r} ({first.how})",
        "`fewstep prompts FILE --against BENCHMARK` takes them out", leaks=len(found),
    )  # fmt: skip


def leaks(patient: Patient) -> Finding:
    """Whether prompts of an evaluation are trained on."""
    experiment, world = patient.experiment, patient.built.world
    if not trains_on_prompts(experiment):
        return not_here("captions of pictures are trained on, and no list")
    trained = training_prompts(experiment, world)
    keys = [key(prompt) for prompt in trained]
    own = {key(p): p for p in evaluation_prompts(experiment, world)} if world is not None else {}
    if same := [own[k] for k in dict.fromkeys(keys) if k in own]:
        return bad(f"{len(same)} prompts of the evaluation are trained on, such as {same[0]!r}",
                   "take them out, or what is measured is memory", leaks=len(same))  # fmt: skip
    if (found := given_away(trained, patient.against)) is not None:
        return found
    others = len(own) + len(patient.against)
    return good(f"none of {others} prompts of evaluations among {len(trained)} of training")


def concept(patient: Patient) -> Finding:
    """Whether the teacher can draw what it is shown (`experiment.teacher_check`)."""
    check = patient.built.check
    if check is None:
        return not_here("no teacher in context")
    drawn = check.draw()
    found = check.measure(drawn)
    columns = (
        Column("shown", drawn.shown), Column("teacher, in context", drawn.teacher),
        Column("without", drawn.plain),
    )  # fmt: skip
    pictures = (columns, [one.told for one in drawn.asked])
    gain = found["gain"]["all"]
    evidence = f"in context the teacher is {gain['value']:.2g} nearer to the pictures than without"
    if found["faults"]:
        return Finding(
            state="fail", evidence=f"{evidence}; {'; '.join(found['faults'])}",
            fix="change pictures, captions or the limits (check.*)", facts={"gain": gain},
            pictures=pictures,
        )  # fmt: skip
    return Finding(state="pass", evidence=evidence, facts={"gain": gain}, pictures=pictures)


APPEARANCE = ("loop.log_every", "loop.keep", "loop.checkpoint_every", "sampling.every",
              "sampling.prompts", "sampling.seed", "eval.", "device", "threads", "seed",
              "data.cache", "data.directory")  # fmt: skip
"""Fields that change no result, or are meant to differ."""


def differences(mine: dict[str, Any], validated: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields of two configurations that differ and decide a result: (validated, mine)."""
    a, b = flat(validated), flat(mine)
    return {
        name: (a.get(name), b.get(name))
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name) and not name.startswith(APPEARANCE)
    }


def flat(values: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {name: values}
    found: dict[str, Any] = {}
    for key_, value in values.items():
        found |= flat(value, f"{name}.{key_}".lstrip("."))
    return found
