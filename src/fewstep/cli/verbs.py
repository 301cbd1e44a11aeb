"""What each verb takes, as dataclasses: options, their defaults and their help come from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fewstep.curation.config import Curation
from fewstep.errors import UserError
from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.evaluate.story import EvalConfig
from fewstep.evaluate.suites import SuiteName
from fewstep.experiment.config import Engine, Experiment, WorldName
from fewstep.families.adapters import Gate, Strength, strength_of, written
from fewstep.flow.sample import SamplerName
from fewstep.train.viewers import ViewerName


def read_strength(words: Sequence[str]) -> Strength:
    try:
        return strength_of(words[0])
    except ValueError as error:
        raise UserError(f"--strengths: {error}") from None


STRENGTH = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="X|X,X,...",
    instance_from_str=read_strength,
    is_instance=lambda value: isinstance(value, float | int | Gate),
    str_from_instance=lambda value: [written(value)],
)
"""How tyro reads a strength."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What `train` and `demo` take beside the fields of the experiment."""

    config: Path | None = None
    """A config.yaml (every run has one) instead of a recipe."""
    out: Path | None = None
    """The run directory; none is runs/NAME, where NAME is the recipe or the file."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the configuration and check it against files and model, without loading weights."""
    force: tyro.conf.FlagCreatePairsOff[bool] = False
    """Train by a teacher that has failed its check; the run records that."""
    track: ViewerName | None = None
    """A viewer that is shown the metrics while the run trains (`pip install 'fewstep[track]'`). It
    can neither stop nor slow it down; the record is metrics.jsonl."""


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
    adapter: tuple[str, ...] = ()
    """Adapter files, of any format that is known; several are stacked in this order."""
    strengths: tuple[Annotated[Strength, STRENGTH], ...] = ()
    """One for each adapter: a number, or a gate with a number for each step, such as 1,1,0,0. None
    is 1 for all."""
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
    """A folder; files of the same names in it are replaced, and so is its samples.json."""


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """Any models or folders of pictures, measured side by side on the same prompts and noise."""

    models: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="MODEL", help_behavior_hint="(required: one or more)"),
    ]
    """MODEL, MODEL@STEPS or MODEL@STEPS,w=W: a diffusers directory, a hub id, "shapes", a run
    directory, or a folder of pictures that `fewstep sample` has made. +first=MODEL,
    +prompt-noise=X, +damp=X or +noise=X after the steps draw in a way to more variety. Without
    --suite one finished run is measured."""
    suite: Annotated[SuiteName, tyro.conf.arg(help_behavior_hint="(required for models)")]
    """How many prompts and seeds, and what is measured; retention draws every model at 1, 2, 4, 8,
    16 and 30 steps, whatever @STEPS and --steps say."""
    out: Path | None = None
    """Where pictures and evaluation.json go; none is evaluations/SUITE. The same command goes on
    where it was stopped."""
    steps: int = 4
    """Of a model that does not say @STEPS."""
    guidance: float = 1.0
    """w of such a model; 1 is none."""
    gap: tuple[str, str] | None = None
    """START END, two of the models: how much of the KID gap between them the others have closed."""
    reference: str | None = None
    """A model whose pictures take the place of the truth, as MODEL@STEPS,w=W."""
    adapter: Path | None = None
    """An adapter file for every model."""
    strengths: tuple[Annotated[Strength, STRENGTH], ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Of the adapter: each is a row, and together they are a curve of diversity against quality. A
    gate, with a number for each step such as 1,1,0,0, is a row beside the curve."""
    world: WorldName = "shapes"
    """Where prompts and the truth come from; "none" needs --prompts-file and --reference."""
    split: Literal["val", "test", "heldout"] = "test"
    prompts_file: str | None = None
    prompts: int | None = None
    """None is as many as the suite says; so are the seeds."""
    seeds: int | None = None
    extractors: tuple[str, ...] | None = None
    """shapes, pixels, inception, dinov2, clip, with :DIR or :HUB-ID for other weights; lpips-alex
    and lpips-vgg. None is what the suite says."""
    scores: tuple[str, ...] = ()
    """clip, pickscore, aesthetic, with the source of their weights behind a colon."""
    batch: int = 32
    height: int | None = None
    """In pixels; none is the size that the model was made for."""
    width: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    engine: Engine = "plain"
    threads: int | None = None

    def __post_init__(self) -> None:
        counts = {"steps": self.steps, "batch": self.batch, "prompts": self.prompts,
                  "seeds": self.seeds, "threads": self.threads}  # fmt: skip
        least = {"prompts": MIN_PROMPTS}
        for name, value in counts.items():
            if value is not None and value < least.get(name, 1):
                raise UserError(f"--{name} must be >= {least.get(name, 1)}, got {value}")
        if not self.models:
            raise UserError("eval needs at least one model; see `fewstep eval --help`")


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The model of a checkpoint, without the machines that trained it."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """A directory that `fewstep train` has made."""
    out: Path | None = None
    """The folder that gets model/, and adapter.safetensors where an adapter was trained; none is
    the run."""
    step: int | None = None
    """Of the checkpoint; none is what the end of the run takes: the best that a retention gauge has
    kept where retention.export is best, else the newest that is whole."""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """One page for one or more runs or evaluations."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """Directories that `fewstep train` or `fewstep eval` has made."""
    out: Path | None = None
    """The page; none is report.html in the only run, or comparison.html here for several."""


@dataclass(frozen=True, kw_only=True)
class EvalHelp(EvalRequest):
    """What `eval` takes. --eval.* is for a single run without --suite; none of it changes the run's
    own configuration."""

    eval: EvalConfig


@dataclass(frozen=True, kw_only=True)
class PromptsRequest:
    """Lists of prompts for training, validation and test, from any files of prompts."""

    files: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="FILE", help_behavior_hint="(required: one or more)"),
    ]
    """Files that end in .txt, .jsonl, .csv, .tsv or .parquet."""
    out: Path | None = None
    """A folder for the lists, the tables and the page; none is prompts/NAME of the first file. The
    same command goes on where it was stopped."""
    field: str | None = None
    """The column or key that holds the prompt; none is the first of prompt, caption and text."""
    against: tuple[Path, ...] = ()
    """Files of evaluation prompts: what repeats, nearly repeats or contains one is left out."""
    against_field: str | None = None
    """Their column or key."""
    taxonomy: Path | None = None
    """A YAML file of axes, labels, words and phrases; none is the one in the package: 14 subjects,
    7 styles and 8 cameras."""
    embed: Path | None = None
    """Directory of a model of texts: prompts that mean the same are found, and labels that no word
    tells."""
    curation: Annotated[Curation, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class NoOptions:
    """What `recipes` takes."""
