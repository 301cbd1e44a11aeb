"""Reads a run directory or an evaluation directory; all that a report shows comes from here.

config.yaml        the configuration: shown as it is, and as its difference from the first run's
env.json           versions, processor, commit; `command` (text or list of texts) is shown as typed
metrics.jsonl      rows with `step`; numbers become series, short lists one line for each entry;
                   a text `phase` is put before the names of its row: `heads/loss`
samples/*.png      strips in the order of their names: `step_000000.png`, `step_000200.png`, ...
teacher.json, ...  of a run that tunes, see `fewstep.report.tuning_files`
health.json, ...   of a run that is watched, see `fewstep.report.watched`
evaluation.json    see `fewstep.report.evaluation`; it names the other pictures

Every file may be missing, but not all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fewstep.report.evaluation import read_evaluation
from fewstep.report.results import Evaluation, Picture
from fewstep.report.tuning import Tuning
from fewstep.report.tuning_files import read_tuning
from fewstep.report.typed import read_json
from fewstep.report.watched import Watched, read_watched
from fewstep.runs import RunError, read_metrics

Array = NDArray[np.float64]

FILES = ("config.yaml", "env.json", "metrics.jsonl", "evaluation.json")
ASIDE = ("command", "commands", "samples")
"""Of env.json: shown elsewhere, or nowhere."""


@dataclass(frozen=True)
class Series:
    """steps (n,), values (n, k): k lines, one for each entry of a logged list."""

    steps: Array
    values: Array


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a run logged, and what it took."""

    series: Mapping[str, Series]
    begun: float | None
    """The first step with a row of the student; None before that."""
    steps: int
    seconds: float | None
    """Steps times seconds a step where the loop logs them (pauses do not count), else the wall
    time from the first row to the last; None where there is neither."""
    skipped: int | None
    """Steps that were not finite and did not count; None where the loop did not log it."""
    not_finite: int
    """Logged values that are not finite."""
    cpu_seconds: float | None
    """Processor time of the steps; None where the loop did not log it."""
    gpu_seconds: float | None
    """The steps' seconds on a GPU; None for a run without one, or where that is not known."""
    peak_memory_mb: float | None
    """The most that was held where the run trained."""
    levels: Sequence[str] = ()
    """The student's, from noise on, where the configuration tells them."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is known of a run."""

    name: str
    config: str
    settings: Mapping[str, str]
    """The configuration as dotted names and text."""
    env: Mapping[str, str]
    commands: Sequence[str]
    training: Training | None
    evaluation: Evaluation
    samples: Sequence[Picture]
    tuning: Tuning = field(default_factory=Tuning)
    watched: Watched | None = None


def collect(directory: Path) -> RunRecord:
    """Read a directory; RunError if there is nothing in it or a file cannot be understood."""
    if not any((directory / name).is_file() for name in FILES):
        raise RunError(f"{directory} holds no run: none of {', '.join(FILES)} is in it")
    env = read_json(directory / "env.json")
    evaluation = read_evaluation(directory)
    rows = read_metrics(directory)
    config = read_text(directory / "config.yaml")
    found = flat(settings(config, directory / "config.yaml"))
    strips = sorted((directory / "samples").glob("*.png"))
    return RunRecord(
        name=directory.resolve().name,
        config=config,
        settings=found,
        env=flat({key: value for key, value in env.items() if key not in ASIDE}),
        commands=list(dict.fromkeys([*commands(env), *evaluation.commands])),
        training=training(rows, env, levels(found)) if rows else None,
        evaluation=evaluation,
        samples=[Picture(path=path, caption=step_of(path)) for path in strips],
        tuning=read_tuning(directory),
        watched=read_watched(directory),
    )


def levels(settings: Mapping[str, str]) -> list[str]:
    """The student's levels as they are written."""
    found = settings.get("method.student_sigmas")
    return found.split(", ") if found else []


def read_text(path: Path) -> str:
    """The text of a file, "" if there is none."""
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None


def settings(config: str, path: Path) -> Mapping[str, Any]:
    """The mapping that a YAML text holds."""
    try:
        found = yaml.safe_load(config) or {}
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} is not YAML: {reason}; restore it or remove it") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} must hold settings by name, got {type(found).__name__}; restore it")
    return found


def commands(env: Mapping[str, Any]) -> list[str]:
    found = env.get("commands", env.get("command", []))
    return [found] if isinstance(found, str) else [str(command) for command in found]


def step_of(path: Path) -> str:
    """`step_000200.png` -> "step 200"; any other name stays."""
    found = re.fullmatch(r"(?:step[_-]?)?0*(\d+)", path.stem)
    return f"step {found[1]}" if found else path.stem


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as dotted names and text."""
    found: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = text(value)
    return found


def text(value: Any) -> str:
    """A setting as it is written in a table."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return ", ".join(text(v) for v in value)
        case _:
            return str(value)


def training(
    rows: Sequence[Mapping[str, Any]], env: Mapping[str, Any], levels: Sequence[str] = ()
) -> Training:
    """Everything that the rows of a run say; there is at least one."""
    found = series(rows)
    times = [row["time"] for row in rows if "time" in row]
    seconds = total(found.get("loop/seconds_per_step"))
    if seconds is None and len(times) > 1:
        seconds = max(0.0, times[-1] - times[0])  # a clock may have been set back
    began = [row["step"] for row in rows if row.get("phase") == "student"]
    skipped = found.get("loop/skipped")
    memory = found.get("loop/peak_memory_mb")
    return Training(
        series=found,
        begun=float(min(began)) if began else None,
        steps=int(rows[-1]["step"]),
        seconds=seconds,
        skipped=None if skipped is None else int(skipped.values[-1, 0]),
        not_finite=sum(int((~np.isfinite(s.values)).sum()) for s in found.values()),
        cpu_seconds=total(found.get("loop/cpu_seconds_per_step")),
        gpu_seconds=seconds if env.get("device") == "cuda" else None,
        peak_memory_mb=None if memory is None else float(memory.values.max()),
        levels=levels,
    )


def total(per_step: Series | None) -> float | None:
    """The sum over all steps of what rows give as the mean over the steps since the last one."""
    if per_step is None:
        return None
    return float(per_step.values[:, 0] @ np.diff(per_step.steps, prepend=0))


def series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Every numeric series, in the order in which names first appear."""
    steps: dict[str, list[float]] = {}
    values: dict[str, list[list[float]]] = {}
    for row in rows:
        prefix = f"{row['phase']}/" if isinstance(row.get("phase"), str) else ""
        for name, value in row.items():
            entries = value if isinstance(value, list) else [value]
            numeric = all(isinstance(v, int | float) for v in entries) and entries
            if name in ("step", "time", "phase") or not numeric:
                continue
            known = values.setdefault(prefix + name, [])
            if known and len(known[0]) != len(entries):
                raise RunError(
                    f"metrics.jsonl logs {name!r} with {len(known[0])} values and, at step "
                    f"{row['step']}, with {len(entries)}; remove the rows of one kind"
                )
            known.append([float(v) for v in entries])
            steps.setdefault(prefix + name, []).append(float(row["step"]))
    return {name: Series(np.array(steps[name]), np.array(found)) for name, found in values.items()}
