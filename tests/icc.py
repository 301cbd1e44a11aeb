"""Colour profiles written by hand (ICC.1:2001-04), and the sRGB that they should lead to."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Curve = Callable[[Array], Array]

D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
"""x, y of red, green and blue."""
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def xyz(x: float, y: float) -> Array:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def to_xyz(primaries: Sequence[tuple[float, float]]) -> Array:
    """(3, 3): linear RGB to XYZ, (1, 1, 1) being D65."""
    columns = np.stack([xyz(*primary) for primary in primaries], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, xyz(*D65)), np.float64)


def adapted() -> Array:
    """(3, 3): XYZ under D65 to XYZ under D50, as profiles are written."""
    gain = (BRADFORD @ D50) / (BRADFORD @ xyz(*D65))
    return np.asarray(np.linalg.solve(BRADFORD, gain[:, None] * BRADFORD), np.float64)


def linear(v: Array) -> Array:
    """The curve of sRGB (IEC 61966-2-1)."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def encoded(v: Array) -> Array:
    v = v.clip(0, 1)
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


def in_srgb(
    pixels: NDArray[np.uint8], primaries: Sequence[tuple[float, float]], curve: Curve
) -> Array:
    """(..., 3) of 0 .. 255, clipped: what RGB of these primaries, whose white is D65, is."""
    matrix = np.linalg.solve(to_xyz(SRGB), to_xyz(primaries))
    return 255 * encoded(curve(pixels / 255) @ matrix.T)


def from_lab(lab: Sequence[float]) -> Array:
    """(3,) of 0 .. 255: Lab under D50 in sRGB."""
    lightness, a, b = lab
    f = (lightness + 16) / 116 + np.array([a / 500, 0, -b / 200])
    cube = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2)
    rgb = np.linalg.solve(adapted() @ to_xyz(SRGB), cube * D50)
    return 255 * encoded(np.asarray(rgb, np.float64))


def profile(space: str, tags: dict[str, bytes], pcs: str = "XYZ ", version: int = 2) -> bytes:
    """An ICC profile of a colour space ("RGB ", "GRAY", "CMYK") from its tags."""
    tags = {"desc": described("by hand"), "wtpt": point(D50), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    device = b"prtr" if space == "CMYK" else b"mntr"
    head = struct.pack(
        ">I4xB3x4s4s4s12x4s28x12s48x", start + len(body), version, device, space.encode(),
        pcs.encode(), b"acsp", fixed(D50),
    )  # fmt: skip
    return head + table + body


def rgb_profile(primaries: Sequence[tuple[float, float]], curve: bytes, version: int = 2) -> bytes:
    columns = (adapted() @ to_xyz(primaries)).T
    points = {f"{c}XYZ": point(v) for c, v in zip("rgb", columns, strict=True)}
    return profile("RGB ", points | {f"{c}TRC": curve for c in "rgb"}, version=version)


def ink_profile(lab: Callable[[Sequence[int]], Sequence[float]]) -> bytes:
    """Of four inks: `lab` of each corner (0 or 1 of each ink), linear in between."""
    straight = bytes(range(256))
    corners = [[(i >> shift) & 1 for shift in (3, 2, 1, 0)] for i in range(16)]
    values = [(l * 2.55, a + 128, b + 128) for l, a, b in map(lab, corners)]  # noqa: E741
    table = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + fixed(np.eye(3).ravel())
    table += straight * 4 + bytes(round(v) for point in values for v in point) + straight * 3
    return profile("CMYK", {"A2B0": table}, pcs="Lab ")


def fixed(values: Sequence[float] | Array) -> bytes:
    """s15Fixed16."""
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def point(values: Array) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(values)


def gamma(value: float) -> bytes:
    """v^value, which a profile holds in 256ths."""
    return b"curv" + struct.pack(">4xIHxx", 1, round(value * 256))


def srgb_curve() -> bytes:
    parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + struct.pack(">4xHxx", 3) + fixed(parameters)


def described(text: str) -> bytes:
    data = text.encode() + b"\0"
    return b"desc" + struct.pack(">4xI", len(data)) + data + b"\0" * 78
