"""Values that a run would never read are refused: whoever sets one expects something of it."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from fewstep.data.folder import FolderConfig
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sft import SFTConfig

if TYPE_CHECKING:  # it calls this file
    from fewstep.experiment.config import DataConfig, Experiment, MethodConfig


def check_unread(experiment: Experiment) -> None:
    """ValueError names the first value that nobody reads, and the way out."""
    method, data = experiment.method, experiment.data
    check_prior(method, data)
    check_folder(data)
    check_context(method, data)
    check_further(method, data)
    check_directory(data)
    check_teacher(experiment)
    check_check(experiment)
    alone = isinstance(method, SFTConfig | DreamBoothConfig) and experiment.adapter is None
    if experiment.frozen != "dtype" and alone:
        raise ValueError(
            f"frozen is {experiment.frozen}, but method {method.name} trains all weights beside no "
            "frozen model: set frozen to dtype"
        )
    if experiment.recompute_share != 1 and not experiment.recompute:
        raise ValueError(
            f"recompute_share is {experiment.recompute_share:g}, which is read where recompute is "
            "true: set that, or recompute_share to 1"
        )


def check_prior(method: MethodConfig, data: DataConfig) -> None:
    if data.prior == "none":
        return
    match method:
        case DOPSDConfig():
            name, weight = "tether_weight", method.tether_weight
        case DreamBoothConfig():
            name, weight = "prior_weight", method.prior_weight
        case _:
            raise ValueError(
                f"data.prior is {data.prior}, but method {method.name} asks for no samples of "
                "other prompts: set data.prior to none"
            )
    if weight == 0:
        raise ValueError(
            f"data.prior is {data.prior}, but method.{name} = 0 asks for no samples of other "
            "prompts: set data.prior to none, or the weight above 0"
        )


def check_folder(data: DataConfig) -> None:
    """What is set of a folder that is not read, or of which only the second one is."""
    if data.source == "folder":
        if data.alike:
            raise ValueError(
                "data.alike is true, which is read of samples and prompts, and data.source is "
                "folder: set data.alike to false"
            )
        return
    read = {"regularisation"}  # DataConfig looks at that itself
    if data.prior == "folder":
        read |= {"size", "background"}
    for field in fields(FolderConfig):
        value = getattr(data.folder, field.name)
        if field.name not in read and value != field.default:
            default = "none" if field.default is None else field.default
            raise ValueError(
                f"data.folder.{field.name} is {value!r}, which is read where data.source is "
                f"folder: set that, got {data.source}, or data.folder.{field.name} to {default}"
            )


def check_context(method: MethodConfig, data: DataConfig) -> None:
    if data.folder.context != "none" and not isinstance(method, DOPSDConfig | OffPolicyConfig):
        raise ValueError(
            f"data.folder.context is {data.folder.context}, but method {method.name} has no "
            "teacher that sees it: set data.folder.context to none"
        )


def check_further(method: MethodConfig, data: DataConfig) -> None:
    """No picture shows what further prompts ask for: nothing can be compared with one."""
    file, context = data.folder.prompts, data.folder.context
    if file is None:
        return
    off_policy = isinstance(method, OffPolicyConfig) and method.states == "teacher"
    if not (off_policy or isinstance(method, DOPSDConfig)):
        raise ValueError(
            f"data.folder.prompts is {file!r}, but method {method.name} learns from the pictures, "
            "which show none of these prompts: set it to none, or take method dopsd, or offpolicy "
            "with method.states teacher"
        )
    if context != "picture":
        raise ValueError(
            f"data.folder.prompts is {file!r}, whose prompts are read beside a picture, and "
            f"data.folder.context is {context}: set that to picture, or data.folder.prompts to none"
        )


def check_directory(data: DataConfig) -> None:
    if data.directory is not None and not data.reads("samples"):
        raise ValueError(
            f"data.directory is {data.directory!r}, but no teacher samples are read where "
            f"data.source is {data.source} and data.prior is {data.prior}: set it to none (what is "
            "read of pictures is kept in data.cache)"
        )


def check_teacher(experiment: Experiment) -> None:
    """Of the methods that train on its samples and ask it for nothing else."""
    method, source = experiment.method, experiment.data.source
    trained_on = isinstance(method, SFTConfig | DreamBoothConfig | PSOConfig)
    if experiment.teacher is not None and trained_on and source != "samples":
        raise ValueError(
            f"teacher is {experiment.teacher!r}, but method {method.name} reads only its samples "
            f"and data.source is {source}: set teacher to none, or data.source to samples"
        )


def check_check(experiment: Experiment) -> None:
    n = len(experiment.check.prompts)
    if n == 0 or experiment.checks_teacher():
        return
    if isinstance(experiment.method, DOPSDConfig | OffPolicyConfig):
        raise ValueError(
            f"check.prompts has {n} prompts, but check.pictures = 0 draws nothing: leave "
            "check.prompts empty, or set check.pictures"
        )
    raise ValueError(
        f"check.prompts has {n} prompts, but method {experiment.method.name} has no teacher in "
        "context to check: leave check.prompts empty"
    )
