"""Settings of several runs side by side: the first run's, and where the others differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewstep.report.collect import RunRecord

UNSET = "not set"


@dataclass(frozen=True)
class Setting:
    """A name and its value in each run, with whether that differs from the first run's."""

    name: str
    values: Sequence[tuple[str, bool]]


def differences(settings: Sequence[Mapping[str, str]]) -> list[Setting]:
    """The settings that are not the same everywhere, in the order in which they first appear."""
    return [setting for setting in side_by_side(settings) if any(new for _, new in setting.values)]


def side_by_side(settings: Sequence[Mapping[str, str]]) -> list[Setting]:
    """Every setting of every run."""
    names = list(dict.fromkeys(name for own in settings for name in own))
    found: list[Setting] = []
    for name in names:
        values = [own.get(name, UNSET) for own in settings]
        found.append(Setting(name, [(value, value != values[0]) for value in values]))
    return found


def configured(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Those with a configuration: an evaluation directory has none."""
    return [record for record in records if record.config]
