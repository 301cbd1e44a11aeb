"""What a training step of each tuning method asks of the models, in passes of one sample."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from fewstep.experiment.config import Experiment
from fewstep.experiment.tuning import Tuning
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sft import SFTConfig


class Passes(NamedTuple):
    """A step's passes; expected ones where the states that are visited are drawn."""

    graded: float
    """Of the student, with a gradient."""
    free: float
    """Of anyone, without."""


def passes(cfg: Tuning, batch: int, prior: int) -> Passes:
    """For a step of `batch` pictures and `prior` samples of other prompts."""
    levels = len(cfg.student_sigmas)
    match cfg:
        case SFTConfig():
            return Passes(batch, 0)
        case DreamBoothConfig():
            return Passes(batch + (prior if cfg.prior_weight > 0 else 0), 0)
        case PSOConfig():
            return Passes(2 * batch, (2 + levels) * batch)
        case DOPSDConfig():
            n, told = cfg.visits or levels, told_passes(cfg.teacher.guidance)
            held = prior if cfg.tether_weight > 0 else 0
            between = last(levels, cfg.visits) - n
            return Passes(n * (batch + held), n * (told * batch + held) + between * (batch + held))
        case OffPolicyConfig():
            n, told = cfg.visits or levels, told_passes(cfg.teacher.guidance)
            asked = n if cfg.states == "samples" else last(levels, cfg.visits)
            return Passes(n * batch, asked * told * batch)
        case _:
            assert_never(cfg)


def told_passes(guidance: float) -> int:
    """Of a teacher that is asked once."""
    return 1 if guidance == 1 else 2


def last(levels: int, visits: int | None) -> float:
    """The expected number of levels up to the last one that is visited."""
    return levels if visits is None else visits * (levels + 1) / (visits + 1)


def passes_of(experiment: Experiment) -> Passes:
    cfg, data = experiment.method, experiment.data
    assert isinstance(cfg, Tuning)
    return passes(cfg, data.batch_size, data.prior_size)
