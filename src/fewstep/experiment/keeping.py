"""How weights are kept and divided, and what of it does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewstep.methods.dmd2 import DMD2Config
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.ladd import LADDConfig
from fewstep.methods.offpolicy import OffPolicyConfig

if TYPE_CHECKING:  # it calls this file
    from fewstep.experiment.config import Experiment


def check_keeping(experiment: Experiment) -> None:
    """ValueError names the first value that does not fit, and the way out."""
    check_kept(experiment)
    if experiment.sharding.on:
        check_sharding(experiment)
    dmd2 = isinstance(experiment.method, DMD2Config)
    if experiment.frozen != "dtype" and experiment.adapter is not None and dmd2:
        raise ValueError(
            f"frozen is {experiment.frozen}, but the critic of method dmd2 begins as a copy of the "
            "teacher, of whose packed layers there are none: set frozen to dtype, or adapter to "
            "none"
        )
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
    if data.batch_size > 1 and not data.alike:
        raise ValueError(
            f"{key} is true, but data.batch_size = {data.batch_size} may have prompts of several "
            f"lengths, which are several micro-batches: set data.alike to true, data.batch_size to "
            f"1 or {key} to false"
        )
    if isinstance(method, DOPSDConfig | DreamBoothConfig | OffPolicyConfig):
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
        if cfg.offload:
            raise ValueError(
                f"sharding.mode is {mode}, but optim.{name}.offload brings whole tensors to main "
                f"memory: set optim.{name}.offload to false, or sharding.mode to none"
            )
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
