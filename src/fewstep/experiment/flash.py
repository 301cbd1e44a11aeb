"""Attention on the meta device as processors and GPUs have it, for what is weighed there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F


@contextmanager
def flash() -> Iterator[None]:
    """Attention by a kernel that keeps no matrix of all pairs, as processors and GPUs have; on the
    meta device torch takes the one that does."""

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        if attn_mask is not None or enable_gqa:
            raise ValueError("a rehearsal has batches of one length, without masks")
        kernel = torch.ops.aten._scaled_dot_product_flash_attention
        return kernel(query, key, value, dropout_p, is_causal, scale=scale)[0]

    real = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = real
