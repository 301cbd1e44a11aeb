"""Activation checkpointing: blocks keep no activations, and are computed again on the way back."""

# pyright: reportAttributeAccessIssue=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from fewstep.errors import UserError
from fewstep.families.zimage import ZImage
from fewstep.runs import RunError

KEEPS = "keeps_activations"
"""An attribute of blocks; copies of them have it too."""


class Recompute:
    """Runs blocks, and counts those that were run again.

    Not reentrant: that would return wrong gradients in silence where a tree changes in between.
    Nothing in a block draws, so that no state of a generator is kept.
    """

    def __init__(self) -> None:
        self.again = 0
        """Blocks that were computed again so far."""

    def check(self) -> None:
        """RunError where nothing was computed again: what was to be spared is then kept."""
        if self.again == 0:
            raise RunError(
                "recompute is true, but a step has computed no block again, so that activations "
                "are kept; please report this, and set recompute to false meanwhile"
            )

    def __deepcopy__(self, memo: object) -> Recompute:
        """Itself: a tree that is made of another one counts with it."""
        return self

    def __call__(self, block: nn.Module, *inputs: Any) -> Any:
        if getattr(block, KEEPS, False):
            return block(*inputs)
        runs = 0

        def run(*given: Any) -> Any:
            nonlocal runs
            self.again += runs > 0
            runs += 1
            return block(*given)

        return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)


def recompute(*families: ZImage, share: float = 1.0) -> Recompute:
    """Let the transformers of these recompute, and every tree that is made of them from now on: of
    their blocks the first ones, so large a share of them. Refiners, which are few, always do.

    UserError where one cannot.
    """
    counter = Recompute()
    for family in families:
        transformer = family.pipeline.transformer
        if (blocks := len(transformer.layers)) * share < 0.5:
            raise UserError(
                f"recompute_share is {share:g}, which of {blocks} blocks is none: set it to "
                f"{1 / blocks:.2g} or more, or recompute to false"
            )
        if not transformer._supports_gradient_checkpointing:
            raise UserError(
                f"recompute is true, but {type(transformer).__name__} has no activation "
                "checkpointing; set recompute to false"
            )
        transformer.enable_gradient_checkpointing(counter)
        for i, block in enumerate(transformer.layers):
            setattr(block, KEEPS, i >= round(share * len(transformer.layers)))
    return counter
