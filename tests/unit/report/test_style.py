"""The style sheet: what is written can be read, by light and by dark."""

from __future__ import annotations

import re
from importlib import resources

import numpy as np
import pytest

from fewstep.report.evaluation import ROLES
from fewstep.report.plots import COLOURS, COLOURS_DARK


def variables(css: str) -> dict[str, str]:
    return dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})\b", css))


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def mixed(colour: str, share: float, paper: str) -> str:
    parts = [
        round(share * int(colour[i : i + 2], 16) + (1 - share) * int(paper[i : i + 2], 16))
        for i in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


def test_every_role_has_a_colour_of_its_own() -> None:
    css = resources.files("fewstep.report").joinpath("page.css").read_text()
    colours = [re.search(rf"\.{role} {{ color: var\((--\w+)\); }}", css) for role in ROLES]
    names = [found[1] for found in colours if found]
    assert len(set(names)) == len(ROLES) and set(names) <= variables(css).keys()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(scheme: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    css = resources.files("fewstep.report").joinpath("page.css").read_text()
    light, dark, *_ = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert "prefers-color-scheme: dark" in css.split(dark)[0][-80:]
    own = variables(light) | (variables(dark) if scheme == "dark" else {})
    assert variables(light).keys() == variables(dark).keys()
    for ink in ("--ink", "--soft", "--accent"):
        for paper in ("--paper", "--card", "--faint", "--accent-soft"):
            assert contrast(own[ink], own[paper]) >= 4.5, (ink, paper)
    assert contrast(own["--warn"], own["--warn-soft"]) >= 4.5
    share = {"light": 0x1F / 255, "dark": 0x26 / 255}[scheme]
    for word in ("--good", "--bad"):
        assert f"{word}-soft: {own[word]}{round(share * 255):02x}" in css
        assert contrast(own[word], mixed(own[word], share, own["--card"])) >= 4.5, word
    # graphics need 3
    roles = [own[f"--{role}"] for role in ("truth", "full", "few", "student", "other")]
    ramp = [own["--ramp-from"], own["--ramp-to"]]
    for colour in (*roles, *ramp, *(COLOURS if scheme == "light" else COLOURS_DARK)):
        assert contrast(colour, own["--card"]) >= 3, colour
