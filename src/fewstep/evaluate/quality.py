"""Sharpness and fine detail of single images, to be read as a ratio to the truth's.

Below 1 is blur; above 1 is noise or ringing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewstep.shapes import Pixels

Array = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])
"""Rec. 601 luminance."""


def luminance(images: Pixels) -> Array:
    """(n, H, W) float64 in [0, 1]."""
    return np.einsum("nchw,c->nhw", images.detach().cpu().double().numpy(), LUMA)


def sharpness(images: Pixels) -> Array:
    """(n,): how steep the edges are, E|g|^2 / E|g| with g the luminance gradient; 0 if constant.

    An edge of height h that is spread over L pixels adds h to the sum of |g| whatever L is, and
    h^2 / L to the sum of |g|^2: the quotient is the steepness, however many edges there are.
    """
    grey = luminance(images)
    down = grey[:, 1:, :-1] - grey[:, :-1, :-1]
    right = grey[:, :-1, 1:] - grey[:, :-1, :-1]
    square = down**2 + right**2
    slope = np.sqrt(square).mean((1, 2))
    return np.divide(square.mean((1, 2)), slope, out=np.zeros_like(slope), where=slope > 1e-12)


def high_frequency(images: Pixels) -> Array:
    """(n,): mean power above half the Nyquist frequency (a period below four pixels)."""
    grey = luminance(images)
    height, width = grey.shape[1:]
    power = np.abs(np.fft.fft2(grey)) ** 2 / (height * width) ** 2
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    return power[:, np.hypot(rows, columns) > 0.25].sum(1)
