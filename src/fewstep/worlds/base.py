"""What a world offers: prompts whose pictures can be judged against the truth.

Everything that measures asks a `World`; nothing else in the project knows which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from fewstep.shapes import Pixels


class World(Protocol):
    name: str

    def prompts(self, split: str, n: int) -> list[str]:
        """The first n prompts of a split ("train", "val", "test", "heldout"); always the same."""
        ...

    def check(self, prompts: Sequence[str]) -> None:
        """ValueError names the first prompt of which the world knows no true picture."""
        ...

    def truth(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        """One picture for each (prompt, seed) pair, drawn from the world's true distribution."""
        ...

    def in_context(self, prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], Pixels]:
        """Prompts to be read beside a picture, with the pictures: of each (prompt, seed) pair the
        same prompt and another true picture of it, or a prompt that needs its picture."""
        ...

    def adherence(self, images: Pixels, prompts: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Arrays, one value an image: "all" (everything right), boolean, and the parts "count",
        "colour", "shape", "size", "background", "relation": 1 right, 0 wrong, NaN where the prompt
        does not ask for it."""
        ...

    def categories(self, prompts: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Boolean arrays, one value a prompt: the kind of what it asks. Kinds do not overlap."""
        ...

    def layouts(self, images: Pixels, prompts: Sequence[str]) -> np.ndarray:
        """(n, k) float64: where each asked object is (centre x, y, radius; in units of the image
        side), in a fixed order of roles; NaN for an object that is not found or not asked."""
        ...

    def features(self, images: Pixels) -> np.ndarray:
        """(n, d) float64 features of a small network trained on this world (KID stands on it)."""
        ...
