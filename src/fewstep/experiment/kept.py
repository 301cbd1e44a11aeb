"""In which numbers a run keeps its weights, in a line for who starts it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from fewstep.experiment.config import Experiment
from fewstep.experiment.rehearsal import count
from fewstep.methods.base import Method
from fewstep.nets.ema import Ema
from fewstep.train.optim import Optim


def kept(
    experiment: Experiment, method: Method, optims: Mapping[str, Optim],
    models: Iterable[nn.Module],
) -> str:  # fmt: skip
    """What trains and how it is kept, what is frozen, averages, and whether blocks are computed
    again."""
    said = [trained(name, optim) for name, optim in optims.items()]
    still = {id(p): p for model in models for p in model.parameters()}
    size = sum(p.numel() * p.element_size() for p in still.values())
    packed = f", blocks in {experiment.frozen}" if experiment.frozen != "dtype" else ""
    said.append(f"frozen {size / 1e6:,.1f} MB in {experiment.dtype}{packed}")
    for module in method.modules.values():
        if isinstance(module, Ema) and module.module is not None:
            own = (p for p in module.module.parameters() if id(p) not in still)
            said.append(f"an average in {dtypes(own)}")
    if experiment.recompute:
        said.append("blocks are computed again")
    return f"weights: {'; '.join(said)}"


def trained(name: str, optim: Optim) -> str:
    weights, moments = optim.cfg.weights, optim.cfg.moments
    how = f" ({weights})" if weights != "float32" else ""
    own = optim.parameters.values()
    where = " in main memory" * optim.cfg.offload + ", in the backward pass" * optim.cfg.in_backward
    return f"{name} {count(own) / 1e6:,.4g}M in {dtypes(own)}{how}, moments in {moments}{where}"


def dtypes(tensors: Iterable[Tensor]) -> str:
    return " and ".join(sorted({str(t.dtype).removeprefix("torch.") for t in tensors}))
