"""The doctor on the packaged Shapes model: each planted fault is named, healthy ones pass."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import doctor
from benchmarks.planted import FAULTS, Fault

from fewstep.doctor.base import examine
from fewstep.doctor.checks import CHECKS
from fewstep.doctor.gradients import gradients
from fewstep.doctor.patient import Patient
from fewstep.doctor.sampling import levels
from fewstep.experiment.builder import build
from fewstep.experiment.models import model_path
from fewstep.flow.sigmas import grid


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of teacher samples, which are drawn once."""
    return tmp_path_factory.getbasetemp().parent / "doctor"


TWINS = {
    "a shift that is applied twice", "answers that are not finite", "twice the latents scale",
    "prompts without the template of a chat", "samples of half the scale",
    "channels in another order", "a student told another level than it sees",
    "a loss that is not finite",
}  # fmt: skip
"""Found by a check that another fault here is for; `benchmarks.doctor` plants these too."""
PLANTED = [fault for fault in FAULTS if fault.name not in TWINS]


@pytest.mark.slow
@pytest.mark.parametrize("fault", PLANTED, ids=[fault.name.replace(" ", "-") for fault in PLANTED])
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


@pytest.mark.slow
def test_a_student_has_a_schedule_of_its_own(cache: Path, tmp_path: Path) -> None:
    """As that of Z-Image-Turbo beside Z-Image."""
    shutil.copytree(model_path("shapes"), tmp_path / "model")
    file = tmp_path / "model/scheduler/scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "shift": 6.0}))
    change = {"model": str(tmp_path / "model"), "engine": "plain",
              "method.student_sigmas": grid(4, 6.0)[:-1], "data.samples.prompts": 32}  # fmt: skip
    experiment = doctor.experiment_of("sda_shapes", change, cache, "")
    patient = Patient(experiment, build(experiment, tmp_path / "run"), prompts=2)
    found = {a.check.name: a for a in examine(patient, CHECKS, quick=True, moving=False)}
    assert found["levels"].state == "pass", found["levels"].line()
    assert found["grid"].state == "pass" and found["pipeline"].state == "pass"
    other = replace(experiment.method, student_sigmas=grid(4, 3.0)[:-1])
    ill = Patient(replace(experiment, method=other), patient.built, prompts=2)
    assert levels(ill).state == "fail"


@pytest.mark.slow
def test_gradients_that_are_zero_at_the_start_are_told_and_no_fault(
    cache: Path, tmp_path: Path
) -> None:
    """Student, teacher and critic of DMD2 begin equal, and without guidance nothing is apart."""
    experiment = doctor.experiment_of("dmd2_shapes", {"method.guidance": 1.0}, cache, "")
    found = gradients(Patient(experiment, build(experiment, tmp_path / "run")))
    assert found.state == "warn" and "at the start student has no gradient" in found.evidence


def test_there_are_as_many_faults_as_were_promised() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 16
    assert len(PLANTED) == len(FAULTS) - len(TWINS) >= 16
    assert {fault.found_by for fault in PLANTED} == {fault.found_by for fault in FAULTS}
    assert len(doctor.HEALTHY) == 20
