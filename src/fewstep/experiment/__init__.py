"""An experiment is one frozen dataclass; `build` makes objects of it, `codec` a YAML file."""

from fewstep.experiment.builder import Built, build
from fewstep.experiment.codec import difference, from_yaml, to_dict, to_yaml
from fewstep.experiment.config import (
    DataConfig,
    EvalConfig,
    Experiment,
    Optims,
    SamplingConfig,
)

__all__ = [
    "Built",
    "DataConfig",
    "EvalConfig",
    "Experiment",
    "Optims",
    "SamplingConfig",
    "build",
    "difference",
    "from_yaml",
    "to_dict",
    "to_yaml",
]
