"""What an experiment is, in values alone. Each part lies beside the code that it configures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from fewstep.data.folder import FolderConfig
from fewstep.data.teacher import TeacherSamples
from fewstep.evaluate.in_context import TeacherCheckConfig
from fewstep.evaluate.story import EvalConfig
from fewstep.experiment.needs import check_needs
from fewstep.experiment.unread import check_unread
from fewstep.flow.sample import SamplerName
from fewstep.methods.dmd2 import DMD2Config
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.ladd import LADDConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sda import SDAConfig
from fewstep.methods.sft import SFTConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.nets.packed import FrozenName
from fewstep.nets.shard import ShardingConfig
from fewstep.train.alarms import WatchConfig
from fewstep.train.loop import LoopConfig
from fewstep.train.optim import OptimConfig
from fewstep.train.retention import RetentionConfig

MethodConfig = (
    LADDConfig
    | DMD2Config
    | SDAConfig
    | SFTConfig
    | DOPSDConfig
    | DreamBoothConfig
    | PSOConfig
    | OffPolicyConfig
)
"""The union of all methods' configs, told apart by their `name`; `build` matches on it."""

Engine = Literal["plain", "fused", "compiled"]
WorldName = Literal["shapes", "shapes-pairs", "shapes-crowded", "shapes-hard", "none"]


@dataclass(frozen=True, kw_only=True)
class Optims:
    """One optimizer for each phase of the method, and none for any other."""

    student: OptimConfig = field(default_factory=OptimConfig)
    heads: OptimConfig | None = None
    """Of LADD."""
    critic: OptimConfig | None = None
    """Of DMD2."""

    def given(self) -> dict[str, OptimConfig]:
        """By phase."""
        found = {"student": self.student, "heads": self.heads, "critic": self.critic}
        return {name: cfg for name, cfg in found.items() if cfg is not None}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    source: Literal["samples", "prompts", "folder"] = "samples"
    """Pictures that the teacher has drawn, with their prompts; the prompts alone, for methods that
    draw while they train; or pictures of your own, with captions."""
    samples: TeacherSamples = field(default_factory=TeacherSamples)
    folder: FolderConfig = field(default_factory=FolderConfig)
    """Of your own pictures; their latents and conditions are kept in `cache` too."""
    prior: Literal["none", "samples", "prompts", "folder"] = "none"
    """What training should leave as it is, shown beside the samples of a step to methods that ask
    for it: `samples` drawn by the model itself, the same prompts without pictures (of the size that
    is trained on), or folder.regularisation."""
    prior_size: int = 1
    """So many of them in a step, shared out to its micro-batches."""
    prompts_file: str | None = None
    """A text file with one prompt a line; none takes the prompts of the world."""
    cache: str = "~/.cache/fewstep/samples"
    """Where teacher samples are kept, a folder for each set of them."""
    directory: str | None = None
    """Exactly this folder of teacher samples instead; another kind of samples in it is refused."""
    batch_size: int = 32
    micro_batch: int | None = None
    """Samples that go through the model together; none is the whole batch. Prompts of several
    lengths never do."""
    alike: bool = False
    """Steps whose prompts are all of one length, up to multiples of 32 tokens; of a folder they may
    not be."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"data.batch_size must be >= 1, got {self.batch_size}")
        if self.micro_batch is not None and not 1 <= self.micro_batch <= self.batch_size:
            raise ValueError(
                f"data.micro_batch must lie in 1 .. batch_size = {self.batch_size}, "
                f"got {self.micro_batch}"
            )
        if self.prior_size < 1:
            raise ValueError(f"data.prior_size must be >= 1, got {self.prior_size}")
        if self.source == "folder" and self.folder.path is None:
            raise ValueError("data.source is folder: set data.folder.path")
        second = self.folder.regularisation
        if self.prior == "folder" and second is None:
            raise ValueError("data.prior is folder: set data.folder.regularisation")
        if self.prior != "folder" and second is not None:
            raise ValueError(
                f"data.folder.regularisation is {second!r}, which is read where data.prior is "
                f"folder: set that, got {self.prior}"
            )

    def reads(self, kind: Literal["samples", "prompts", "folder"]) -> bool:
        """Whether training or its prior takes this kind."""
        return kind in (self.source, self.prior)

    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that are trained on; of a folder, the square bucket."""
        if self.source == "folder":
            return self.folder.size, self.folder.size
        return self.samples.height, self.samples.width


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the student is meant to be sampled, and the fixed-seed pictures drawn on the way."""

    steps: int = 4
    """Model calls, on the model's own grid; the student is trained at exactly these levels."""
    sampler: SamplerName = "renoise"
    """What happens between two levels, in the exported model too. A student is trained on noise
    that it has not seen before, which is what re-noising gives it."""
    every: int = 200
    """Pictures are drawn every so many steps, and before the first."""
    prompts: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "every", "prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"sampling.{name} must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides a run; the command line and config.yaml are made from it."""

    model: str = "shapes"
    """A diffusers directory or hub id; "shapes" is the small model that comes with the package."""
    world: WorldName = "shapes"
    """Where prompts and the truth come from; "none" needs data.prompts_file. The model in the
    package was trained for "shapes"."""
    teacher: str | None = None
    """The many-step model, where `model` is not that itself: SDA needs it; DMD2 may begin with a
    student that is on its way; SFT learns from its samples."""
    assistant: str | None = None
    """An adapter file that undoes the distillation, in any format that is known: SDA and SFT
    train beside it, and what is exported is without it."""
    assistant_share: Literal["asymmetric", "symmetric"] = "asymmetric"
    """Who sees the assistant: the first noise and the anchor, or every pass of the training."""
    method: MethodConfig
    adapter: AdapterConfig | None = None
    """What trains of the student; none is every weight."""
    optim: Optims = field(default_factory=Optims)
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    check: TeacherCheckConfig = field(default_factory=TeacherCheckConfig)
    """Of the teacher in context before training begins; methods without one are not checked."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    """Of the student while it learns from a folder of pictures."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """Of the run's health, by any method."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the frozen models and of the exported file; trained weights are float32 in any case."""
    frozen: FrozenName = "dtype"
    """How the layers of frozen models are kept: in `dtype`, or in eight bits of a weight (int8,
    float8) or four (nf4), unpacked for each product. Teachers and the base of an adapter are then
    only near what they were; what is exported is made of the whole base. With engine plain alone.
    """
    engine: Engine = "plain"
    """How the transformer runs: by its own code; by dense code, with products in bfloat16 where the
    processor is fast at them and in float32 elsewhere; or by the latter through torch.compile,
    which costs a minute or two at the start."""
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    """Of weights among the processes of torchrun; it changes no result, and a run may go on with
    another."""
    recompute: bool = False
    """Activation checkpointing: blocks keep no activations and are computed again on the way back,
    which takes less memory and about a third more time. With engine plain alone."""
    recompute_share: float = 1.0
    """Of the blocks, how many are computed again, where there is room for what the others keep."""
    threads: int | None = None
    """CPU threads; none leaves torch's choice. Small models are fastest with 1."""

    def __post_init__(self) -> None:
        for key, number in numbers(self):
            if not math.isfinite(number):
                raise ValueError(f"{key} must be a finite number, got {number}")
        if self.world == "none" and self.data.prompts_file is None:
            raise ValueError("data.prompts_file is needed when world is none: one prompt a line")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be >= 1 or none, got {self.threads}")
        check_needs(self)
        check_unread(self)

    def checks_teacher(self) -> bool:
        """Whether the teacher is looked at before training: one in context, and asked for."""
        return isinstance(self.method, DOPSDConfig | OffPolicyConfig) and self.check.pictures > 0


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every float in dataclasses and tuples, however deep, with its dotted key."""
    if is_dataclass(value):
        for f in fields(value):
            yield from numbers(getattr(value, f.name), f"{key}.{f.name}".lstrip("."))
    elif isinstance(value, tuple):
        for part in value:
            yield from numbers(part, key)
    elif isinstance(value, float):
        yield key, value
