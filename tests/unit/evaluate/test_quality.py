"""Colour, contrast and scale of single images against published values and known changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fewstep.evaluate.quality import brightness, contrast, saturation, scale
from fewstep.worlds.shapes.world import Shapes


def plain(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb)[None, :, None, None].expand(1, 3, 8, 12)


def enlarged(images: torch.Tensor, by: float) -> torch.Tensor:
    """The middle of the pictures, `by` times as large."""
    zoom = torch.tensor([[1 / by, 0, 0], [0, 1 / by, 0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(zoom, list(images.shape), align_corners=False)
    found = F.grid_sample(images, grid, mode="bicubic", align_corners=False)
    return found.clamp(0, 1)


def blobs(by: float, n: int = 100, side: int = 64) -> torch.Tensor:
    """Pictures full of discs `by` times as large, drawn so, some of them over the edges."""
    rng = np.random.default_rng(0)
    at = (np.arange(side) + 0.5) / side - 0.5
    images = np.full((n, side, side), 0.5)
    for image in images:
        for _ in range(60):
            x, y, radius = (
                by * rng.uniform(-1, 1),
                by * rng.uniform(-1, 1),
                by * rng.uniform(0.05, 0.2),
            )
            inside = (radius - np.hypot(at[:, None] - y, at - x)) * side + 0.5
            image += rng.uniform(-0.3, 0.3) * inside.clip(0, 1)
    return torch.from_numpy(images.clip(0, 1))[:, None].expand(-1, 3, -1, -1)


@pytest.fixture(scope="module")
def shapes() -> torch.Tensor:
    world = Shapes()
    prompts = world.prompts("test", 60)
    return world.truth(prompts, range(60))


def test_chroma_of_the_primaries_is_that_of_the_published_tables() -> None:
    # CIELAB of the sRGB primaries, D65: (a*, b*) of red 80.1, 67.2; green -86.2, 83.2;
    # blue 79.2, -107.9
    for rgb, ab in (
        ((1, 0, 0), (80.1, 67.2)),
        ((0, 1, 0), (-86.2, 83.2)),
        ((0, 0, 1), (79.2, -107.9)),
    ):
        assert saturation(plain(*map(float, rgb)))[0] == pytest.approx(np.hypot(*ab), abs=0.1)
    for grey in (0.0, 0.002, 0.3, 1.0):
        assert saturation(plain(grey, grey, grey))[0] == pytest.approx(0, abs=1e-9)


def test_chroma_grows_without_a_jump_from_black() -> None:
    # where the cube root gives way to a line, one coordinate at a time
    ramp = (
        torch.linspace(0, 0.4, 400)[:, None, None, None]
        * torch.tensor([1.0, 0.2, 0.0])[:, None, None]
    )
    steps = np.diff(saturation(ramp))
    assert steps.min() > 0 and steps.max() < 0.4


def test_saturation_is_a_mean_over_pixels_and_falls_towards_grey(shapes: torch.Tensor) -> None:
    half = torch.cat([plain(1.0, 0.0, 0.0), plain(0.5, 0.5, 0.5)], dim=3)
    assert saturation(half)[0] == pytest.approx(saturation(plain(1.0, 0.0, 0.0))[0] / 2)
    grey = shapes.mean(1, keepdim=True)
    drained = grey + 0.5 * (shapes - grey)
    assert (saturation(drained) < 0.7 * saturation(shapes)).all()


def test_brightness_and_contrast_of_a_known_picture() -> None:
    assert brightness(plain(1.0, 0.0, 0.0))[0] == pytest.approx(0.299)
    steps = torch.cat([plain(0.2, 0.2, 0.2), plain(0.8, 0.8, 0.8)], dim=2)
    assert brightness(steps)[0] == pytest.approx(0.5)
    assert contrast(steps)[0] == pytest.approx(0.3)
    assert contrast(plain(0.7, 0.1, 0.4))[0] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("cycles", [1, 3, 6])
def test_scale_of_a_pure_wave_is_its_wavelength(cycles: int) -> None:
    at = (torch.arange(64, dtype=torch.float64) + 0.5) * torch.pi * cycles / 64
    # even at both edges, so that mirroring continues it: half a period for each unit
    wave = (0.5 + 0.4 * torch.cos(at)).expand(1, 3, 48, 64)
    assert scale(wave)[0] == pytest.approx(2 / cycles, rel=1e-9)
    assert scale(wave.transpose(2, 3))[0] == pytest.approx(2 / cycles, rel=1e-9)


def test_scale_does_not_depend_on_size_contrast_or_brightness(shapes: torch.Tensor) -> None:
    double = F.interpolate(shapes, scale_factor=2, mode="bilinear")
    assert scale(double).mean() == pytest.approx(scale(shapes).mean(), rel=0.02)
    np.testing.assert_allclose(scale(0.3 * shapes + 0.2), scale(shapes), rtol=1e-5)
    assert np.isnan(scale(plain(0.3, 0.4, 0.5))).all()


@pytest.mark.parametrize("by", [1.05, 1.1, 1.2])
def test_scale_shows_how_much_a_model_zooms_in(by: float, shapes: torch.Tensor) -> None:
    assert scale(enlarged(shapes, by)).mean() / scale(shapes).mean() == pytest.approx(by, rel=0.03)
    found = scale(blobs(by)).mean() / scale(blobs(1.0)).mean()
    assert 1 + 0.55 * (by - 1) < found < by


def test_scale_is_not_taken_in_by_noise_or_blur(shapes: torch.Tensor) -> None:
    noise = torch.randn(shapes.shape, generator=torch.Generator().manual_seed(0))
    noisy = (shapes + 0.03 * noise).clamp(0, 1)
    assert scale(noisy).mean() / scale(shapes).mean() == pytest.approx(1, abs=0.02)
    soft = F.avg_pool2d(F.pad(shapes, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    assert scale(soft).mean() / scale(shapes).mean() == pytest.approx(1, abs=0.05)
