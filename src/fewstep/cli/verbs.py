"""What each verb takes, as dataclasses: options, their defaults and their help come from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fewstep.evaluate.story import EvalConfig
from fewstep.experiment.config import Experiment
from fewstep.flow.sample import SamplerName


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What `train` and `demo` take beside the fields of the experiment."""

    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    out: Path | None = None
    """The run directory; none is runs/NAME, where NAME is the recipe or the file."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the configuration and check it against files and model, without loading weights."""


@dataclass(frozen=True, kw_only=True)
class TrainHelp(TrainRequest):
    """The same with every field of an experiment."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Pictures of prompts x seeds, from any model directory."""

    model: str
    """A diffusers directory or hub id; "shapes" is the model in the package."""
    prompts: tuple[str, ...]
    steps: int = 4
    """Model calls (twice as many with guidance), on the model's own grid."""
    sampler: SamplerName | None = None
    """What happens between two levels; none is what the model was saved with."""
    guidance: float = 1.0
    """w; 1 is none."""
    seeds: tuple[int, ...] = (0,)
    height: int | None = None
    """In pixels; none is the size that the model was made for."""
    width: int | None = None
    batch: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights."""
    out: Path = Path("pictures")
    """A folder; files of the same names in it are replaced."""


@dataclass(frozen=True, kw_only=True)
class RunHelp:
    """What `report` takes."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A directory that `fewstep train` has made."""


@dataclass(frozen=True, kw_only=True)
class EvalHelp(RunHelp):
    """What `eval` takes. None of it changes the run's own configuration."""

    eval: EvalConfig


@dataclass(frozen=True)
class NoOptions:
    """What `recipes` takes."""
