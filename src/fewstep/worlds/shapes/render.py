"""Draws scenes: antialiased by the distance to each outline, all pixels of all scenes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewstep.worlds.shapes.scene import Scene, Thing


def coverage(things: Sequence[Thing], side: int) -> np.ndarray:
    """(n, side, side) float32 in [0, 1]: how much of each pixel each thing covers."""
    drawn = filled(things, [t.radius for t in things], side)
    hollow = [i for i, t in enumerate(things) if t.outline.hollow]
    if hollow:
        of = [things[i] for i in hollow]
        drawn[hollow] -= filled(of, [t.radius * t.outline.hollow for t in of], side)
    return drawn


def filled(things: Sequence[Thing], radii: Sequence[float], side: int) -> np.ndarray:
    """The same of things without holes, each of the radius beside it.

    The distance of a pixel to an outline r(phi) is taken to first order,
    (r - rho) / sqrt(1 + (r'/r)^2), which is exact for circles and straight sides seen head on.
    """
    column = np.array(
        [
            (t.x, t.y, radius * t.outline.reach(), t.angle,
             t.outline.points, t.outline.inner, t.outline.roundness)
            for t, radius in zip(things, radii, strict=True)
        ],
        dtype=np.float32,
    ).T[:, :, None, None]  # fmt: skip
    x, y, tip, angle, points, inner, roundness = column
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side
    dx, dy = grid[None, None, :] - x, grid[None, :, None] - y
    rho = np.sqrt(dx * dx + dy * dy)
    alpha = np.float32(np.pi) / points
    turn = (np.arctan2(dx, -dy) - angle) / (2 * alpha)
    phi = np.abs(turn - np.round(turn)) * 2 * alpha  # angle from the nearest tip, in [0, alpha]
    height = inner * np.sin(alpha)
    slope = 1 - inner * np.cos(alpha)
    straight = height / (np.sin(phi) * slope + np.cos(phi) * height)
    bend = -(straight**2) * (np.cos(phi) * slope - np.sin(phi) * height) / height
    radial = (1 - roundness) * straight + roundness
    tilt = (1 - roundness) * bend / radial
    distance = (tip * radial - rho) / np.sqrt(1 + tilt * tilt)
    return np.clip(distance * side + 0.5, 0, 1)


def render(scenes: Sequence[Scene], side: int = 64) -> np.ndarray:
    """(n, 3, side, side) float32 RGB in [0, 1]; later things of a scene lie on top."""
    images = np.empty((len(scenes), 3, side, side), np.float32)
    images[:] = np.array([s.background for s in scenes], np.float32)[:, :, None, None]
    most = max((len(s.things) for s in scenes), default=0)
    for layer in range(most):
        rows = [i for i, s in enumerate(scenes) if len(s.things) > layer]
        things = [scenes[i].things[layer] for i in rows]
        cover = coverage(things, side)[:, None]
        colour = np.array([t.colour for t in things], np.float32)[:, :, None, None]
        images[rows] += cover * (colour - images[rows])
    return images
