"""A LoKr as a LoRA, for readers that know no LoKr: the best of its rank, and what that loses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.families.adapter_state import Factors, State, by_layer, kind_of


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What the LoRA lacks: |dW - B A| / |dW| in the Frobenius norm, bfloat16 not counted."""

    layers: Mapping[str, float]
    overall: float
    """Over all layers together."""


def to_lora(state: State, rank: int) -> tuple[dict[str, Tensor], Loss]:
    """The LoRA of the largest `rank` singular values of each layer, float32, and its error.

    A layer of fewer singular values gets them all. ValueError for a rank below 1, or for an adapter
    that is a LoRA already.
    """
    if rank < 1:
        raise ValueError(f"rank must be >= 1, got {rank}")
    if kind_of(state) == "lora":
        raise ValueError("the adapter is a LoRA already; only a LoKr can be turned into one")
    found: dict[str, Tensor] = {}
    left: dict[str, float] = {}
    whole: dict[str, float] = {}
    for layer, factors in by_layer(state).items():
        b, a, kept, energy = largest(factors, rank)
        found[f"{layer}.lora_A"], found[f"{layer}.lora_B"] = a, b
        left[layer], whole[layer] = max(energy - kept, 0.0), energy
    errors = {layer: _ratio(left[layer], whole[layer]) for layer in left}
    return found, Loss(layers=errors, overall=_ratio(sum(left.values()), sum(whole.values())))


def largest(factors: Factors, rank: int) -> tuple[Tensor, Tensor, float, float]:
    """B (rows, r) and A (r, columns) with r <= rank, and the squared norms of B A and of dW.

    The singular values of kron(w1, w2) are all products of one of w1 and one of w2, and so are its
    vectors (Van Loan, The ubiquitous Kronecker product, 2000), so dW is never made.
    """
    w1 = factors["lokr_w1"].double()
    if "lokr_w2" in factors:
        w2 = factors["lokr_w2"].double()
    else:
        w2 = factors["lokr_w2_a"].double() @ factors["lokr_w2_b"].double()
    u1, s1, v1 = torch.linalg.svd(w1, full_matrices=False)
    u2, s2, v2 = torch.linalg.svd(w2, full_matrices=False)
    values = torch.outer(s1, s2).flatten()
    kept, order = values.topk(min(rank, len(values)))
    i, j = order // len(s2), order % len(s2)
    root = kept.sqrt()
    b = torch.einsum("ar,br->abr", u1[:, i], u2[:, j]).flatten(0, 1) * root
    a = torch.einsum("rc,rd->rcd", v1[i], v2[j]).flatten(1) * root[:, None]
    return b.float(), a.float(), kept.square().sum().item(), values.square().sum().item()


def _ratio(left: float, whole: float) -> float:
    return math.sqrt(left / whole) if whole else 0.0
