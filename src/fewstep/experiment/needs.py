"""What a method needs of the rest of its experiment, and what does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

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
    check_kept(experiment)
    if experiment.sharding.on:
        check_sharding(experiment)
    if experiment.frozen != "dtype" and experiment.engine != "plain":
        raise ValueError(
            f"frozen is {experiment.frozen}, but engine {experiment.engine} reads the weights of "
            "layers instead of calling them: set engine to plain, or frozen to dtype"
        )
    if experiment.recompute and experiment.engine != "plain":
        raise ValueError(
            f"recompute is true, but engine {experiment.engine} keeps its activations: set engine "
            "to plain, or recompute to false"
        )
    if not 0 < experiment.recompute_share <= 1:
        raise ValueError(
            f"recompute_share must lie in (0, 1], got {experiment.recompute_share}; recompute "
            "false computes nothing again"
        )
    data, every = experiment.data, experiment.retention.every
    if every and data.source != "folder":
        raise ValueError(
            f"retention.every = {every} looks how near the student comes to the pictures of a "
            "folder: set data.source to folder, or retention.every to 0"
        )
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


def check_kept(experiment: Experiment) -> None:
    """Few bytes are for the many weights of a transformer."""
    for name, cfg in experiment.optim.given().items():
        if cfg.in_backward:
            check_in_backward(experiment, name)
        if cfg.weights == "float32":
            continue
        key = f"optim.{name}.weights"
        if name == "heads":
            raise ValueError(f"{key} is {cfg.weights}, but heads are in float32: set it to that")
        if name == "student" and experiment.adapter is not None:
            raise ValueError(
                f"{key} is {cfg.weights}, but an adapter is small and in float32: set it to that"
            )


def check_in_backward(experiment: Experiment, name: str) -> None:
    """Each weight moves before another gradient is known."""
    key, data, method = f"optim.{name}.in_backward", experiment.data, experiment.method
    if data.micro_batch is not None and data.micro_batch < data.batch_size:
        raise ValueError(
            f"{key} is true, but data.micro_batch = {data.micro_batch} adds up the gradients of "
            f"several: set data.micro_batch to none, or {key} to false"
        )
    if isinstance(method, SDAConfig | DOPSDConfig):
        raise ValueError(
            f"{key} is true, but the loss of method {method.name} comes in parts: set {key} to "
            "false"
        )
    if experiment.sharding.on:
        raise ValueError(
            f"{key} is true, but sharding.mode is {experiment.sharding.mode}, and gradients of "
            f"several processes are summed: set sharding.mode to none, or {key} to false"
        )


def check_sharding(experiment: Experiment) -> None:
    """What works on whole weights, or has none worth dividing."""
    method, mode = experiment.method, experiment.sharding.mode
    if experiment.adapter is not None:
        raise ValueError(
            f"sharding.mode is {mode}, but an adapter is all that trains and small, and its frozen "
            "base belongs to two models at once: set sharding.mode to none, or adapter to none"
        )
    if experiment.engine != "plain":
        raise ValueError(
            f"sharding.mode is {mode}, but engine {experiment.engine} reads the weights of blocks "
            "without calling them, so nobody would gather them: set engine to plain"
        )
    if experiment.frozen != "dtype":
        raise ValueError(
            f"sharding.mode is {mode}, but frozen is {experiment.frozen}, and packed layers are "
            "not divided: set frozen to dtype, or sharding.mode to none"
        )
    for name, cfg in experiment.optim.given().items():
        for part, kept in (("weights", cfg.weights), ("moments", cfg.moments)):
            if kept != "float32":
                raise ValueError(
                    f"sharding.mode is {mode}, but optim.{name}.{part} is {kept}, which one "
                    f"process packs alone: set optim.{name}.{part} to float32, or sharding.mode "
                    "to none"
                )
    if isinstance(method, LADDConfig) and method.r1 == "exact":
        raise ValueError(
            f"sharding.mode is {mode}, but method.r1 = exact differentiates the heads' gradient "
            "once more, when their weights are no longer gathered: set method.r1 to approx or "
            "none, or sharding.mode to none"
        )
    if every := experiment.retention.every:
        raise ValueError(
            f"sharding.mode is {mode}, but retention.every = {every} looks with one process that "
            "has all weights: set retention.every to 0, or sharding.mode to none"
        )
    data = experiment.data
    if data.prior != "none" and data.prior_size < data.batch_size:
        raise ValueError(
            f"sharding.mode is {mode}, but data.prior_size = {data.prior_size} may leave a "
            "micro-batch without a sample of the prior, and its process with fewer passes than the "
            f"others, which would wait for ever: set data.prior_size to {data.batch_size} or more "
            "(data.batch_size), or sharding.mode to none"
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
