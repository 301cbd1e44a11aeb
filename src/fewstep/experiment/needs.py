"""What a method needs of the rest of its experiment, and what does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from fewstep.experiment.keeping import check_keeping
from fewstep.methods.dmd2 import DMD2Config
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.ladd import LADDConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sda import SDAConfig
from fewstep.methods.sft import SFTConfig

if TYPE_CHECKING:  # it calls this file
    from fewstep.experiment.config import Experiment


def check_needs(experiment: Experiment) -> None:
    """ValueError names the first value that is missing or does not fit, and the way out."""
    check_method(experiment)
    check_teacher(experiment)
    check_assistant(experiment)
    check_keeping(experiment)
    data, every = experiment.data, experiment.retention.every
    if every and data.source != "folder":
        raise ValueError(
            f"retention.every = {every} looks how near the student comes to the pictures of a "
            "folder: set data.source to folder, or retention.every to 0"
        )
    check_watch(experiment)
    if experiment.check.prompts and data.folder.context == "prompt":
        raise ValueError(
            "check.prompts are read beside a picture, and data.folder.context is prompt: leave "
            "check.prompts empty"
        )


def check_method(experiment: Experiment) -> None:
    match experiment.method:
        case LADDConfig() as method:
            check_optims(experiment, "heads", "student")
            check_pictures(experiment)
            check_ladd(experiment, method)
        case DMD2Config() as method:
            check_optims(experiment, "critic", "student")
            if method.picture_levels > 0:
                check_pictures(experiment)
            if experiment.loop.steps < method.student_every:
                raise ValueError(
                    f"loop.steps = {experiment.loop.steps} ends before the student's first move "
                    f"(method.student_every = {method.student_every}): train longer"
                )
        case SDAConfig():
            check_optims(experiment, "student")
            if experiment.teacher is None:
                raise ValueError(
                    "method sda needs the many-step model that model was distilled from: set "
                    "teacher"
                )
            if experiment.method.states == "samples":
                check_pictures(experiment, "samples", "folder")
        case SFTConfig() | PSOConfig():
            check_optims(experiment, "student")
            check_pictures(experiment, "samples", "folder")
        case DreamBoothConfig() as method:
            check_optims(experiment, "student")
            check_pictures(experiment, "samples", "folder")
            check_prior(experiment, "prior_weight", method.prior_weight, "samples", "folder")
        case DOPSDConfig() as method:
            check_optims(experiment, "student")
            check_context(experiment)
            check_prior(
                experiment, "tether_weight", method.tether_weight, "prompts", "samples", "folder"
            )
        case OffPolicyConfig():
            check_optims(experiment, "student")
            check_context(experiment)
        case _:
            assert_never(experiment.method)


def check_teacher(experiment: Experiment) -> None:
    method, alone = experiment.method, LADDConfig | DOPSDConfig | OffPolicyConfig
    if experiment.teacher is not None and isinstance(method, alone):
        raise ValueError(
            f"teacher is {experiment.teacher!r}, but method {method.name} has no other than model; "
            "leave teacher at none"
        )


def check_assistant(experiment: Experiment) -> None:
    method, assistant = experiment.method, experiment.assistant
    if assistant is None:
        return
    if not isinstance(method, SDAConfig | SFTConfig):
        raise ValueError(
            f"assistant is {assistant!r}, but method {method.name} takes none; leave assistant at "
            "none"
        )
    if isinstance(method, SFTConfig) and experiment.assistant_share != "symmetric":
        raise ValueError(
            "method sft has the assistant in every pass: set assistant_share to symmetric, "
            f"got {experiment.assistant_share}"
        )
    if experiment.adapter is None:
        raise ValueError(
            "assistant is for a student that is an adapter, which can be exported without it: "
            "set adapter, or assistant to none"
        )


def check_watch(experiment: Experiment) -> None:
    watch = experiment.watch
    if watch.every and experiment.retention.every and watch.policy.any_of("slow", "back"):
        raise ValueError(
            f"retention.every = {experiment.retention.every} goes back and lowers learning rates by"
            " a rule of its own: set watch.policy to log, evidence or stop, or retention.every to 0"
        )


def check_pictures(experiment: Experiment, *sources: str) -> None:
    """Without `sources`, teacher samples alone will do."""
    sources = sources or ("samples",)
    if experiment.data.source not in sources:
        raise ValueError(
            f"method {experiment.method.name} learns from pictures: set data.source to "
            f"{' or '.join(sources)}"
        )


def check_context(experiment: Experiment) -> None:
    if experiment.data.source != "folder" or experiment.data.folder.context == "none":
        raise ValueError(
            f"method {experiment.method.name} needs what its teacher sees of each picture: set "
            "data.source to folder and data.folder.context to picture or prompt"
        )


def check_prior(experiment: Experiment, name: str, weight: float, *kinds: str) -> None:
    if weight > 0 and experiment.data.prior not in kinds:
        raise ValueError(
            f"method.{name} = {weight} needs samples of other prompts: set data.prior to "
            f"{' or '.join(kinds)}, got {experiment.data.prior}, or the weight to 0"
        )


def check_optims(experiment: Experiment, *phases: str) -> None:
    method, given = experiment.method.name, experiment.optim.given()
    for name in phases:
        if name not in given:
            raise ValueError(f"method {method} needs an optimizer: set optim.{name}")
    for name in given:
        if name not in phases:
            raise ValueError(f"method {method} has no phase for optim.{name}; set it to none")


def check_ladd(experiment: Experiment, method: LADDConfig) -> None:
    if not any(map(method.student_moves, range(experiment.loop.steps))):
        raise ValueError(
            f"loop.steps = {experiment.loop.steps} ends before the student's first move "
            f"(method.heads_first = {method.heads_first}, method.student_every = "
            f"{method.student_every}): train longer, or lower method.heads_first"
        )
    smallest = experiment.data.micro_batch or experiment.data.batch_size
    if smallest == 1 and method.loss == "hinge":
        raise ValueError(
            "method.loss = hinge cannot work on one sample at a time: set data.batch_size and "
            "data.micro_batch to at least 2, or method.loss to softplus"
        )
    if smallest == 1 and method.misaligned_weight > 0:
        raise ValueError(
            "method.misaligned_weight > 0 pairs a picture with the text of another sample: set "
            "data.batch_size and data.micro_batch to at least 2, or the weight to 0"
        )
