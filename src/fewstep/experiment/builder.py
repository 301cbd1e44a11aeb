"""From values to objects: the only place that knows which class a config stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import torch

from fewstep.data.batches import Batch
from fewstep.data.cache import Key
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.experiment.config import Experiment
from fewstep.experiment.folders import find_folders
from fewstep.experiment.models import choose_device, load_family, make_world, slow_numbers
from fewstep.experiment.packing import pack_blocks
from fewstep.experiment.preview import Preview
from fewstep.experiment.probes import Probes
from fewstep.experiment.prompts import check_prompts, cut_off
from fewstep.experiment.retention import make_gauge
from fewstep.experiment.samples import check_samples, data_of
from fewstep.experiment.teacher_check import TeacherCheck, teacher_check
from fewstep.experiment.trees import make_sda, student_of, trainable
from fewstep.experiment.tuning import make_tuning
from fewstep.families.base import Cond, Family
from fewstep.families.recompute import Recompute, recompute
from fewstep.families.zimage import ZImage
from fewstep.flow.sigmas import levels
from fewstep.methods.base import Method
from fewstep.methods.dmd2 import DMD2, DMD2Config
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.ladd import LADD, LADDConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sda import SDAConfig
from fewstep.methods.sft import SFTConfig
from fewstep.nets.heads import Heads
from fewstep.train.frozen import Frozen
from fewstep.train.gauge import Gauge
from fewstep.train.loop import Hook, every
from fewstep.train.optim import Optim, updates_per_phase
from fewstep.train.watch import Watch
from fewstep.worlds.base import World


@dataclass(frozen=True, kw_only=True)
class Built:
    """Everything that a run needs."""

    family: ZImage
    teacher: ZImage
    """`family` itself, unless the experiment names another one."""
    world: World | None
    method: Method
    batches: Callable[[int], list[Batch]]
    samples_key: Key
    """What decided the samples behind `batches`."""
    optims: dict[str, Optim]
    hooks: list[Hook]
    device: torch.device
    data_report: dict[str, Any] = field(default_factory=dict)
    """What was found in folders of pictures, as JSON; empty without one."""
    notes: tuple[str, ...] = ()
    """What a user should hear of the samples."""
    check: TeacherCheck | None = None
    """To be made before training; None without a teacher in context."""
    gauge: Gauge | None = None
    """To be asked while training; None where the experiment wants none."""
    watch: Watch | None = None
    """The same, of the run's health."""
    frozen: Frozen | None = None
    """The weights that training must leave as they are."""
    recomputed: Recompute | None = None
    """Counts blocks that are computed again; None where the experiment asks for no recomputation.
    """

    def after_first(self) -> None:
        """After a step of all phases: RunError where it was not as the experiment has it."""
        if self.recomputed is not None:
            self.recomputed.check()

    def rest(self, experiment: Experiment) -> None:
        """Before training: text encoders give up their place beside the model, unless every step
        reads prompts."""
        if not reads_live(experiment):
            for family in (self.family, self.teacher):
                family.rest()


def reads_live(experiment: Experiment) -> bool:
    """Whether prompts are read while training, and not before it."""
    return experiment.data.reads("samples") and experiment.data.samples.texts == "live"


def build(
    experiment: Experiment, run_dir: Path, told: Told = quiet, *, processes: int = 1
) -> Built:
    """Load the model, check everything, then compute or find its samples. A step may be split over
    several processes, of which each builds the same.

    `told` hears how far samples and pictures are. Raises UserError for what the user can repair.
    """
    device = choose_device(experiment)
    check_processes(experiment, processes)
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
    dtype, engine = experiment.dtype, experiment.engine
    # a student of whole weights begins as the model is, and only then can that be packed
    frozen = experiment.frozen if experiment.adapter is not None else "dtype"
    family = load_family(experiment.model, device, dtype, engine, frozen)
    teacher = family
    if experiment.teacher is not None:
        teacher = load_family(experiment.teacher, device, dtype, engine, frozen)
    recomputed = None
    if experiment.recompute:
        recomputed = recompute(family, teacher, share=experiment.recompute_share)
    world = make_world(experiment)
    method, optims = prepare(experiment, family, teacher, world, device)
    folders = find_folders(experiment, family)
    data = data_of(experiment, family, teacher, world, folders, told, processes=processes)
    preview = Preview(experiment, family, world, method, run_dir / "samples")
    return Built(
        family=family, teacher=teacher, world=world, method=method,
        batches=data.batches, samples_key=data.key, data_report=data.report,
        notes=(
            *data.notes, *cut_off(experiment, world, family), *slow_numbers(experiment, device)
        ), optims=optims, device=device,
        hooks=[
            every(experiment.sampling.every, preview, at_start=True, follow=preview.follow)
        ],
        check=teacher_check(experiment, family, world, folders.trained),
        gauge=make_gauge(
            experiment, family, world, method, optims, folders.trained, run_dir / "samples"
        ),
        watch=make_watch(
            experiment, family, teacher, world, method, data.batches, run_dir / "samples"
        ),
        recomputed=recomputed,
        frozen=Frozen(method.modules, [family.backbone, teacher.backbone]),
    )  # fmt: skip


def make_watch(
    experiment: Experiment, family: ZImage, teacher: ZImage, world: World | None, method: Method,
    batches: Callable[[int], list[Batch]], samples: Path,
) -> Watch | None:  # fmt: skip
    """The watch over a run, its pictures in `samples`; None where the experiment wants none."""
    if not experiment.watch.every:
        return None
    start = teacher if isinstance(experiment.method, LADDConfig) else family
    probes = Probes(experiment, family, world, method, start.backbone, batches, samples / "health")
    loop = experiment.loop
    return Watch(experiment.watch, probes, steps=loop.steps, checkpoint_every=loop.checkpoint_every)


def check_processes(experiment: Experiment, processes: int) -> None:
    """UserError for what one process does alone."""
    for name, cfg in experiment.optim.given().items():
        if cfg.in_backward and processes > 1:
            raise UserError(
                f"optim.{name}.in_backward is true, but {processes} processes sum their gradients "
                "before a weight may move: set it to false, or start one process"
            )


def prepare(
    experiment: Experiment, family: ZImage, teacher: ZImage, world: World | None,
    device: torch.device,
) -> tuple[Method, dict[str, Optim]]:  # fmt: skip
    """Method and optimizers, after every check that needs no sample; UserError if one fails.

    With the model of `experiment.outline` it costs no memory and takes no time.
    """
    check_samples(experiment, teacher, world)
    check_prompts(experiment, world)
    try:
        method = make_method(experiment, family, teacher, device)
        return method, make_optims(experiment, method)
    except ValueError as error:
        raise UserError(str(error)) from error


def make_method(
    experiment: Experiment, family: ZImage, teacher: ZImage, device: torch.device
) -> Method:
    """`teacher` is `family` itself unless the experiment names another one. Models are packed as
    the experiment has it, if they are not yet."""
    method = unpacked_method(experiment, family, teacher, device)
    if experiment.frozen != "dtype":
        for each in (family, teacher):
            pack_blocks(each, experiment.frozen)
    return method


def unpacked_method(
    experiment: Experiment, family: ZImage, teacher: ZImage, device: torch.device
) -> Method:
    cfg, sampling, optims = experiment.method, experiment.sampling, experiment.optim.given()
    check_levels(cfg.student_sigmas, family.sigmas(sampling.steps))
    match cfg:
        case LADDConfig():
            backbone = teacher.backbone
            student = student_of(backbone, experiment)
            heads = Heads(
                cfg.heads, width=backbone.width, cond_width=backbone.cond_width,
                count=len(cfg.layers), seed=experiment.seed,
            ).to(device)  # fmt: skip
            return LADD(cfg, student=student, teacher=backbone, heads=heads)
        case DMD2Config():
            return DMD2(
                cfg, student=student_of(family.backbone, experiment), teacher=teacher.backbone,
                critic=trainable(teacher.backbone, optims["critic"].weights),
                uncond=no_prompt(teacher, device), sampler=sampling.sampler,
            )  # fmt: skip
        case SDAConfig():
            return make_sda(experiment, cfg, family, teacher, no_prompt(teacher, device))
        case SFTConfig() | DreamBoothConfig() | PSOConfig() | DOPSDConfig() | OffPolicyConfig():
            return make_tuning(experiment, cfg, family, no_prompt(family, device))
        case _:
            assert_never(cfg)


def no_prompt(family: Family, device: torch.device) -> Cond:
    """The condition of the empty prompt; of a model without weights, any one token."""
    if device.type == "meta":
        return Cond((torch.zeros(1, family.backbone.cond_width, device=device),))
    return family.encode_text([""])


def check_levels(trained: Sequence[float], grid: Sequence[float]) -> None:
    """Training away from the levels that the sampler visits is the mistake of a wrong shift."""
    visited = levels(grid)
    if sorted(round(s, 4) for s in trained) != sorted(round(s, 4) for s in visited):
        shown = ", ".join(f"{s:g}" for s in visited)
        raise ValueError(
            f"method.student_sigmas are {', '.join(f'{s:g}' for s in trained)}, but a sampler of "
            f"{len(visited)} steps on this model's grid visits {shown}: set them to these, or "
            "change sampling.steps"
        )


def make_optims(experiment: Experiment, method: Method) -> dict[str, Optim]:
    total = updates_per_phase(method, experiment.loop.steps)
    return {
        name: Optim(cfg, method.modules[name], total=total[name], seed=experiment.seed)
        for name, cfg in experiment.optim.given().items()
    }
