"""The doctor on the packaged Shapes model: each planted fault is named, healthy ones pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import doctor
from benchmarks.planted import FAULTS, Fault


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of teacher samples, which are drawn once."""
    return tmp_path_factory.getbasetemp().parent / "doctor"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name.replace(" ", "-") for fault in FAULTS])
def test_the_first_complaint_names_what_was_planted(fault: Fault, cache: Path) -> None:
    last = doctor.planted(fault, cache)[-1]
    assert last.state in ("warn", "fail"), "nothing was found"
    assert last.check.name == fault.found_by, last.line()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LADD", "LADD, LoRA"])
def test_a_healthy_pipeline_passes(name: str, cache: Path) -> None:
    recipe, change = doctor.HEALTHY[name]
    seen = doctor.examined(name, doctor.experiment_of(recipe, change, cache, ""), cache)
    assert seen.complaints == []
    assert sum(line.startswith("PASS") for line in seen.lines) >= 14


def test_there_are_as_many_faults_as_were_promised() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 16
    assert len(doctor.HEALTHY) == 20
