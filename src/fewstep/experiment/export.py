"""The end of a run: the student as an ordinary diffusers directory, read back before it counts."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import torch

from fewstep.evaluate.generate import fingerprint
from fewstep.experiment.builder import Built, load_family
from fewstep.families.base import Backbone
from fewstep.runs import RunError


def export(built: Built, directory: Path, dtype: str = "float32") -> Path:
    """Write `built.method.exported()` around its family, load it back, compare every weight.

    The directory appears whole or not at all. Raises RunError if what is read is not what was
    trained, or if it cannot be written.
    """
    trained = built.method.exported()
    assert isinstance(trained, Backbone)
    student = copy.deepcopy(trained).to(getattr(torch, dtype))
    temporary = directory.with_name(f".{directory.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        built.family.save(temporary, student)
        read = load_family(str(temporary), torch.device("cpu"), dtype).backbone
        if fingerprint(read) != fingerprint(student):
            raise RunError(
                f"the model written to {directory} does not read back as it was trained; "
                "the checkpoints are sound, please report this"
            )
        temporary.rename(directory)
    except RunError:
        raise
    except OSError as error:
        raise RunError(
            f"could not write the model {directory}: {error.strerror or error}; the checkpoints "
            "are sound, free some space and run the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory
