"""A small world whose truth is known: one square, its colour and its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fewstep.shapes import Pixels

COLOURS = {"red": 0, "green": 1, "blue": 2}


class Squares:
    """Prompts "red 3": a red square with its left edge near column 3; satisfies `World`."""

    name = "squares"

    def prompts(self, split: str, n: int) -> list[str]:
        return [f"{('red', 'green', 'blue')[i % 3]} {i}" for i in range(n)]

    def truth(self, prompts: Sequence[str], seeds: Sequence[int]) -> Pixels:
        images = torch.zeros(len(prompts), 3, 16, 16)
        for image, prompt, seed in zip(images, prompts, seeds, strict=True):
            colour, number = prompt.split()
            rng = np.random.default_rng([int(number), seed])
            top, left = rng.integers(0, 11, 2)
            image[COLOURS[colour], top : top + 5, left : left + 5] = 1
        return images

    def adherence(self, images: Pixels, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        painted = images.sum((2, 3)).argmax(1).numpy()
        right = painted == np.array([COLOURS[p.split()[0]] for p in prompts])
        return {"all": right, "colour": right, "count": np.ones(len(images), dtype=bool)}

    def categories(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        return {"red": np.array([p.startswith("red") for p in prompts])}

    def check(self, prompts: Sequence[str]) -> None:
        for prompt in prompts:
            if prompt.split()[0] not in COLOURS:
                raise ValueError(f"the world cannot read the prompt {prompt!r}")

    def layouts(self, images: Pixels, prompts: Sequence[str]) -> np.ndarray:
        weight = images.amax(1).double().numpy()
        at = np.arange(16) / 16
        total = weight.sum((1, 2))
        x, y = (weight.sum(1) @ at / total, weight.sum(2) @ at / total)
        return np.stack([x, y, np.sqrt(total) / 32], 1)

    def features(self, images: Pixels) -> np.ndarray:
        small = torch.nn.functional.avg_pool2d(images, 4)
        return small.flatten(1).double().numpy()
