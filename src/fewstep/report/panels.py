"""Which series stand in which plot: of one run by subject, of several run against run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewstep.report.collect import RunRecord, Series, Training
from fewstep.report.health import ACCURACY, GAP, Band, balanced
from fewstep.report.plots import COLOURS, Line, Panel, colour, ramp, thinned


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Series that belong together."""

    title: str
    pattern: str
    """Of their names after the phase."""
    share: bool = False
    bands: Sequence[Band] = ()
    judged: str = ""
    """The series that the bands are about."""
    after_begin: bool = False
    """The bands hold once the student has begun to move."""


SUBJECTS = (
    Subject(
        title="Gap of the heads' logits", pattern="gap", bands=GAP, judged="gap", after_begin=True
    ),
    Subject(
        title="Accuracy of the heads", pattern=r"(real|fake|mean)_accuracy", share=True,
        bands=ACCURACY, judged="mean_accuracy",
    ),
    Subject(title="Losses", pattern=r"(.*_)?loss|distil|concept|prior"),
    Subject(title="Tether to the model before training", pattern="tether"),
    Subject(title="Errors beyond those of the model before training", pattern="target|own"),
    Subject(title="Training pictures preferred", pattern="preferred", share=True),
    Subject(title="Gradient norms", pattern=r"(.*_)?grad(ient)?_norm"),
    Subject(title="Mean logits", pattern=r"(real|fake)_logit"),
    Subject(title="Spread of the pictures", pattern=r".*(_std|_spread)"),
    Subject(title="Learning rate", pattern=r"lr|learning_rate"),
)  # fmt: skip
LISTED = r"(.*)_by_(head|layer|sigma|state)"
MAIN_LISTED = r"(real|fake)_accuracy_by_sigma|(distil|tether)_by_state"
"""Those that everyone should see."""


def panels(records: Sequence[RunRecord]) -> tuple[list[Panel], list[Panel]]:
    """What everyone should see, and the rest."""
    trained = {r.name: r.training for r in records if r.training is not None}
    if len(records) == 1:
        return of_one(next(iter(trained.values()))) if trained else ([], [])
    return of_several(trained)


def of_one(training: Training) -> tuple[list[Panel], list[Panel]]:
    """A panel for each subject and for accuracy by level, then one for every other series."""
    found = completed(training)
    shown: list[Panel] = []
    used: set[str] = set()
    for subject in SUBJECTS:
        names = about(subject, found)
        used |= set(names)
        if names:
            lines = [
                Line(label, found[name], colour(i))
                for i, (name, label) in enumerate(zip(names, shortened(names), strict=True))
            ]
            shown.append(panel(subject, subject.title, names, lines, [training]))
    rest: list[Panel] = []
    for name in found:
        if re.fullmatch(MAIN_LISTED, last(name)):
            shown.append(listed(name, found[name], training.levels))
        elif re.fullmatch(LISTED, last(name)):
            rest.append(listed(name, found[name], training.levels))
        elif name not in used:
            rest.append(Panel(title=words(name), lines=split("", found[name], ())))
    return shown, rest


def of_several(trained: Mapping[str, Training]) -> tuple[list[Panel], list[Panel]]:
    """A panel for each series with a line for each run; listed series stay with their run."""
    found = {run: completed(training) for run, training in trained.items()}
    every = {name: series for own in found.values() for name, series in own.items()}
    shown: list[Panel] = []
    used: set[str] = set()
    for subject in SUBJECTS:
        for name in about(subject, every):
            used.add(name)
            lines = overlaid(name, found)
            shown.append(panel(subject, words(name), [name], lines, trained.values()))
    rest = [
        Panel(title=words(name), lines=overlaid(name, found))
        for name in every
        if name not in used and every[name].values.shape[1] == 1
    ]
    rest += [
        listed(name, series, trained[run].levels, f"{run}: ")
        for run, own in found.items()
        for name, series in own.items()
        if re.fullmatch(LISTED, last(name))
    ]
    return shown, rest


def overlaid(name: str, found: Mapping[str, Mapping[str, Series]]) -> list[Line]:
    """A series of every run that has it; a run has its colour in all plots."""
    return [
        Line(run, own[name], colour(i), dashed=i >= len(COLOURS))
        for i, (run, own) in enumerate(found.items())
        if name in own and own[name].values.shape[1] == 1
    ]


def about(subject: Subject, found: Mapping[str, Series]) -> list[str]:
    """The names of one value a step that belong to a subject."""
    return [
        name
        for name, series in found.items()
        if series.values.shape[1] == 1 and re.fullmatch(subject.pattern, last(name))
    ]


def panel(
    subject: Subject, title: str, names: Sequence[str], lines: Sequence[Line],
    trained: Iterable[Training],
) -> Panel:  # fmt: skip
    """The panel of a subject, with its bands where the judged series is in it."""
    judged = any(last(name) == subject.judged for name in names)
    start = None
    if judged and subject.after_begin:
        begun = [training.begun for training in trained if training.begun is not None]
        start = max(begun, default=None)
        judged = bool(begun)
    bands = subject.bands if judged else ()
    return Panel(title=title, lines=lines, share=subject.share, bands=bands, bands_from=start)


def completed(training: Training) -> dict[str, Series]:
    """The series with what follows from them: means over bins of levels, and the mean accuracy."""
    found = by_sigma(training.series)
    both = balanced(training.series)
    return found if both is None else {**found, "heads/mean_accuracy": both}


def last(name: str) -> str:
    """The name without its phase."""
    return name.split("/")[-1]


def words(name: str) -> str:
    """`heads/real_loss` -> "Heads: real loss"."""
    text = name.replace("/", ": ")
    return (text[:1].upper() + text[1:]).replace("_", " ")


def shortened(names: Sequence[str]) -> list[str]:
    """Labels without the phase, where that leaves them distinct."""
    short = [last(name) for name in names]
    found = short if len(set(short)) == len(short) else [name.replace("/", " ") for name in names]
    return [name.replace("_", " ") for name in found]


def listed(name: str, series: Series, levels: Sequence[str], before: str = "") -> Panel:
    """A list by head, layer, level or state as lines with an order; `levels` are the states'."""
    found = re.fullmatch(LISTED, last(name))
    assert found is not None
    title = f"{found[1].replace('_', ' ').capitalize()} by {found[2]}"
    return Panel(
        title=before + title,
        lines=split(found[2], series, levels),
        share="accuracy" in found[1],
    )


def split(kind: str, series: Series, levels: Sequence[str]) -> list[Line]:
    """A line for each entry."""
    count = series.values.shape[1]
    return [
        Line(
            label(kind, i, count, levels),
            Series(series.steps, series.values[:, i : i + 1]),
            ramp(i, count) if count > 1 else colour(0),
        )
        for i in range(count)
    ]


def label(kind: str, i: int, count: int, levels: Sequence[str]) -> str:
    match kind:
        case "state" if len(levels) == count:
            return f"sigma {levels[i]}"
        case "sigma":
            return f"{i / count:.2g} to {(i + 1) / count:.2g}"
        case "head" | "layer" | "state":
            return f"{kind} {i}"
        case _:
            return f"entry {i}"


def by_sigma(series: Mapping[str, Series]) -> dict[str, Series]:
    """The series, with sums over a bin of levels turned into means over its samples.

    `x_correct_by_sigma` and `x_logit_by_sigma` are divided by `x_share_by_sigma`, averages by
    averages: a row may have no sample in a bin.
    """
    return dict(_by_sigma(series))


def _by_sigma(series: Mapping[str, Series]) -> Iterator[tuple[str, Series]]:
    for name, own in series.items():
        parts = re.fullmatch(r"(.*_)(correct|logit|share)_by_sigma", name)
        share = parts and series.get(f"{parts[1]}share_by_sigma")
        if not parts or not share or share.values.shape != own.values.shape:
            yield name, own
        elif parts[2] != "share":
            # long stretches, so that every bin has samples in nearly all of them
            steps, top = thinned(own.steps, own.values, points=40)
            _, bottom = thinned(share.steps, share.values, points=40)
            mean = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
            kind = "accuracy" if parts[2] == "correct" else "logit"
            yield f"{parts[1]}{kind}_by_sigma", Series(steps, mean)
