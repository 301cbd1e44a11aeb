"""A new run, or the one that lies there, if nothing of what it was started on has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewstep.data import cache
from fewstep.data.cache import Key
from fewstep.errors import UserError
from fewstep.experiment.builder import Built
from fewstep.experiment.codec import difference, from_yaml, to_yaml
from fewstep.experiment.config import Experiment
from fewstep.experiment.trees import file_of, sha256
from fewstep.nets.shard import ShardingConfig
from fewstep.runs import Run, write_atomic


def read_config(path: Path) -> Experiment:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the configuration {path} cannot be read: {error}") from None
    return from_yaml(text, str(path))


def read_experiment(directory: Path) -> Experiment:
    """The configuration that a run was started with."""
    return read_config(directory / "config.yaml")


def check_same(directory: Path, experiment: Experiment) -> None:
    """UserError if the run in this directory was started with another configuration. How weights
    are divided among processes decides nothing of it."""
    whole = ShardingConfig()  # which goes with anything
    there = replace(read_experiment(directory), sharding=whole)
    if lines := difference(there, replace(experiment, sharding=whole)):
        raise UserError(
            f"the run {directory} was started with another configuration ({'; '.join(lines)}); "
            "choose another --out, or change the options back"
        )


def check_same_samples(directory: Path, key: Key, report: Mapping[str, Any]) -> None:
    """UserError if the run in this directory was started on other samples: a file of prompts, a
    picture or a model can change behind a path that stays. `report` tells of the pictures."""
    found = started_on(directory, "samples")
    if lines := cache.difference(found, json.loads(json.dumps(key))):
        if names := changed_pictures(directory, report):
            lines.append(f"changed: {', '.join(names)}")
        raise UserError(
            f"the run {directory} was started on other samples ({'; '.join(lines)}); bring the "
            "model, the prompts or the pictures back, or choose another --out"
        )


def changed_pictures(directory: Path, report: Mapping[str, Any]) -> list[str]:
    """Files whose row is another one than when the run was started, or is there no more."""
    try:
        there = json.loads((directory / "data.json").read_bytes())
    except (OSError, ValueError):  # the hashes have told already that something has changed
        return []
    here, names = json.loads(json.dumps(report)), list[str]()
    for role in there.keys() & here.keys():
        old, new = ({row["file"]: row for row in each[role]["rows"]} for each in (there, here))
        names += [name for name in old.keys() | new.keys() if old.get(name) != new.get(name)]
    return sorted(names)


def check_same_assistant(directory: Path, experiment: Experiment) -> None:
    """UserError if the assistant's file has changed since the run in this directory was started."""
    if experiment.assistant is None:
        return
    if started_on(directory, "assistant") != assistant_hash(experiment):
        raise UserError(
            f"the run {directory} was started with another file as assistant than "
            f"{experiment.assistant} is now; bring it back, or choose another --out"
        )


def assistant_hash(experiment: Experiment) -> str | None:
    if experiment.assistant is None:
        return None
    return sha256(file_of(experiment.assistant, "assistant"))


def started_on(directory: Path, fact: str) -> Any:
    """What env.json of a run tells of its model, its samples or its assistant."""
    path = directory / "env.json"
    try:
        return json.loads(path.read_bytes())[fact]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not tell what {fact} the run was started on ({error}); bring it back, "
            "or choose another --out"
        ) from None


def open_run(directory: Path, experiment: Experiment, built: Built, command: str) -> Run:
    """A new run, or the one that is there if its configuration, its model, its samples and its
    assistant are the same."""
    model = built.family.identity()
    if (directory / "config.yaml").is_file():
        check_same(directory, experiment)
        if started_on(directory, "model") != model:
            raise UserError(
                f"the run {directory} was started on another model than {experiment.model} is now; "
                "bring it back, or choose another --out"
            )
        check_same_samples(directory, built.samples_key, built.data_report)
        check_same_assistant(directory, experiment)
        return Run.open(directory)
    facts = {
        "command": command, "device": built.device.type, "model": model,
        "samples": built.samples_key,
    }  # fmt: skip
    if experiment.assistant is not None:
        facts["assistant"] = assistant_hash(experiment)
    run = Run.create(directory, to_yaml(experiment), facts)
    if built.data_report:
        report = json.dumps(built.data_report, indent=1, ensure_ascii=False)
        write_atomic(directory / "data.json", report.encode() + b"\n")
    return run
