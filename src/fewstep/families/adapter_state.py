"""An adapter as a plain dictionary of tensors, and what it adds to a model.

A key is "<layer>.<factor>": the dotted name of a Linear layer of the transformer, and its factors.

    LoKr    dW = kron(lokr_w1, lokr_w2)         lokr_w2 = lokr_w2_a lokr_w2_b where it is low-rank
    LoRA    dW = lora_B lora_A

There is no alpha, as LyCORIS (arXiv:2309.14859) has beside them: every scale is in the factors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, assert_never

import torch
from peft.tuners.lokr.layer import factorization
from torch import Tensor, nn

State = Mapping[str, Tensor]
Factors = dict[str, Tensor]
Layers = Mapping[str, tuple[int, int]]
"""Rows and columns (outputs, inputs) of the Linear layers that an adapter may change."""
Kind = Literal["lokr", "lora"]

FULL = frozenset({"lokr_w1", "lokr_w2"})
LOW_RANK = frozenset({"lokr_w1", "lokr_w2_a", "lokr_w2_b"})
LORA = frozenset({"lora_A", "lora_B"})
PRODUCTS = (("lora_B", "lora_A"), ("lokr_w2_a", "lokr_w2_b"), ("lokr_w1_a", "lokr_w1_b"))


def linear_layers(model: nn.Module) -> Layers:
    """Every Linear layer of the model by its dotted name."""
    return {
        name: (layer.out_features, layer.in_features)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
    }


def by_layer(state: State) -> dict[str, Factors]:
    """The factors of each layer; ValueError for a key or a set of factors that is no adapter."""
    found: dict[str, Factors] = {}
    for key, tensor in state.items():
        layer, _, factor = key.rpartition(".")
        found.setdefault(layer, {})[factor] = tensor
    for layer, factors in found.items():
        if factors.keys() not in (FULL, LOW_RANK, LORA):
            raise ValueError(
                f"{layer} has the factors {', '.join(sorted(factors))}; an adapter has lokr_w1 "
                "with lokr_w2 (or lokr_w2_a and lokr_w2_b), or lora_A with lora_B"
            )
        if wrong := [name for name, tensor in factors.items() if tensor.ndim != 2]:
            raise ValueError(f"{layer}.{wrong[0]} must be a matrix, got {factors[wrong[0]].ndim}-D")
    return found


def kind_of(state: State) -> Kind:
    """ValueError for an adapter of no layers or of both kinds: no reader takes them in one file."""
    kinds: set[Kind] = {"lora" if "lora_A" in f else "lokr" for f in by_layer(state).values()}
    if len(kinds) != 1:
        have = "both LoKr and LoRA factors" if kinds else "no factors"
        raise ValueError(f"an adapter file holds one kind of factors, this one has {have}")
    return kinds.pop()


def check_ranks(factors: Factors) -> None:
    """ValueError where the inner dimensions of a product differ. The factors are matrices."""
    for left, right in PRODUCTS:
        if not factors.keys() >= {left, right}:
            continue
        if factors[left].shape[1] != factors[right].shape[0]:
            raise ValueError(
                f"{left} {tuple(factors[left].shape)} and {right} {tuple(factors[right].shape)} "
                "have no common rank"
            )


def acts(state: State) -> bool:
    """Whether the adapter changes anything: one factor of zeros undoes a whole layer."""
    return any(all(f.any() for f in factors.values()) for factors in by_layer(state).values())


def shape_of(factors: Factors) -> tuple[int, int]:
    """(rows, columns) of dW; ValueError where the inner dimensions of a product differ."""
    check_ranks(factors)
    if "lora_A" in factors:
        return factors["lora_B"].shape[0], factors["lora_A"].shape[1]
    (a, b), (c, d) = split_of(factors)
    return a * b, c * d


def delta(factors: Factors) -> Tensor:
    """dW of one layer, float32, (rows, columns)."""
    f = {name: tensor.float() for name, tensor in factors.items()}
    match kind := "lora" if "lora_A" in f else "lokr":
        case "lora":
            return f["lora_B"] @ f["lora_A"]
        case "lokr":
            w2 = f["lokr_w2"] if "lokr_w2" in f else f["lokr_w2_a"] @ f["lokr_w2_b"]
            return torch.kron(f["lokr_w1"], w2)
        case _:
            assert_never(kind)


def split_of(factors: Factors) -> tuple[tuple[int, int], tuple[int, int]]:
    """How a LoKr splits its layer: rows = a * b and columns = c * d, as ((a, b), (c, d))."""
    a, c = factors["lokr_w1"].shape
    b = factors["lokr_w2" if "lokr_w2" in factors else "lokr_w2_a"].shape[0]
    d = factors["lokr_w2" if "lokr_w2" in factors else "lokr_w2_b"].shape[1]
    return (a, b), (c, d)


def common_factor(state: State) -> int:
    """The one decompose_factor (-1: near the square root) that gives all splits of a LoKr.

    diffusers has one for each file and infers it from the shapes; ValueError where there is none.
    """
    splits = {layer: split_of(factors) for layer, factors in by_layer(state).items()}
    candidates = [*sorted({rows[0] for rows, _ in splits.values()}), -1]
    misfits = {factor: _misfit(splits, factor) for factor in candidates}
    for factor, misfit in misfits.items():
        if misfit is None:
            return factor
    first = next(iter(splits))
    other = misfits[splits[first][0][0]] or first
    if other == first:
        raise ValueError(f"no decompose_factor splits {first} as {_text(splits[first])}")
    raise ValueError(
        f"one file has one factor, but {first} is split as {_text(splits[first])} and {other} as "
        f"{_text(splits[other])}; each factor needs a file of its own"
    )


def _misfit(splits: Mapping[str, tuple[tuple[int, int], tuple[int, int]]], by: int) -> str | None:
    """The first layer that the factor `by` would split in another way."""
    for layer, sides in splits.items():
        if any(factorization(a * b, by) != (a, b) for a, b in sides):
            return layer
    return None


def _text(sides: tuple[tuple[int, int], tuple[int, int]]) -> str:
    return " by ".join(f"{a} x {b}" for a, b in sides)
