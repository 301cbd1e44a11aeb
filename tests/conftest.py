"""For every test: one torch thread, the shapes of the flow's signatures checked at run time, and a
tiny model directory with random weights."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Models with random weights are ill, and nearly every test of a run has one (tests of the doctor
# switch it on).
os.environ["FEWSTEP_DOCTOR"] = "off"

# Two threads spin against one another on a small machine and are slower than one.
torch.set_num_threads(1)

# Before anything imports fewstep.flow. Types are checked in tests only: checks cost time, and
# torch.compile stumbles over them.
# The numeric tower: an int is a float.
install_import_hook(
    "fewstep.flow", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import tiny_zimage  # after the hook

    directory = tmp_path_factory.mktemp("tiny") / "model"
    family = tiny_zimage()
    family.save(directory, family.backbone)
    return directory
