"""What each metric is called, which way it is better, and what it means.

The words go into `evaluation.json` beside the numbers, so a report needs no table of its own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fewstep.evaluate.statistics import Estimate

Group = Literal["fidelity", "adherence", "categories", "diversity", "quality", "collapse"]
"""The table a metric stands in."""

LOWER, HIGHER, ONE = "lower is better", "higher is better", "1 is the truth"
AS_TRUTH = "as the truth"
"""Best near what true pictures of the same prompts get: more is as wrong as less."""
NEAR = "Best near the true pictures' value; without a world, near the reference model's."

EXTRACTORS = {
    "shapes": "Shapes",
    "pixels": "pixels",
    "inception": "Inception",
    "dinov2": "DINOv2",
    "clip": "CLIP",
}
"""How the features behind a metric are called in a table."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is shown."""

    label: str
    group: Group
    better: str = ""
    explained: str = ""
    percent: bool = False
    target: float | None = None
    """The best value, marked in plots; where that is "as the truth", it is known beside a truth."""
    main: bool = False
    """One of the few that everybody should see."""

    def beside(self, truth: Estimate | None) -> Metric:
        """The same with the target that true pictures give it, where they were measured."""
        if self.better != AS_TRUTH or truth is None or not math.isfinite(truth.value):
            return self
        return replace(self, target=truth.value)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


OF_FEATURES = {
    "kid": Metric(
        label="KID", group="fidelity", better=LOWER, target=0.0, main=True,
        explained="Distance of the pictures to the reference's; 0 is the same distribution.",
    ),
    "kid_standard": Metric(
        label="KID, standard", group="fidelity", better=LOWER, target=0.0,
        explained="The usual estimator, which prompts in common bias downwards; for comparison "
        "with other work only.",
    ),
    "cmmd": Metric(
        label="CMMD", group="fidelity", better=LOWER, target=0.0,
        explained="Distance by a Gaussian kernel on CLIP features, times 1000.",
    ),
    "fd": Metric(
        label="FD", group="fidelity", better=LOWER,
        explained="Frechet distance; it shrinks with the number of pictures, so only values of "
        "equal numbers compare.",
    ),
    "precision": Metric(
        label="Precision", group="fidelity", better=HIGHER, percent=True,
        explained="Share of pictures among the reference's neighbours.",
    ),
    "recall": Metric(
        label="Recall", group="fidelity", better=HIGHER, percent=True,
        explained="Share of the reference among the pictures' neighbours.",
    ),
    "density": Metric(
        label="Density", group="fidelity", better=ONE, target=1.0,
        explained="How many of the reference's neighbourhoods hold a picture, as the truth has it.",
    ),
    "coverage": Metric(
        label="Coverage", group="fidelity", better=HIGHER, percent=True,
        explained="Share of the reference's neighbourhoods that hold a picture.",
    ),
    "vendi": Metric(
        label="Vendi score", group="diversity", better=AS_TRUTH,
        explained="How many different pictures the seeds of a prompt amount to; bad pictures can "
        f"differ more than true ones. {NEAR}",
    ),
    "distance": Metric(
        label="Feature distance", group="diversity", better=AS_TRUTH,
        explained="Mean cosine distance between the seeds of a prompt; bad pictures can differ "
        f"more than true ones. {NEAR}",
    ),
    "prompt_share": Metric(
        label="Share of the prompt", group="collapse", better=AS_TRUTH, percent=True,
        explained="How much of what differs between pictures the prompt explains. More than the "
        "truth's: the seeds are alike. Less: the prompts are.",
    ),
    "cross_prompt": Metric(
        label="Distance across prompts", group="collapse", better=ONE, target=1.0,
        explained="How far apart the pictures of two prompts are at one seed, relative to the "
        "truth; 0 is one picture for every prompt.",
    ),
}  # fmt: skip
"""Metrics of features; "_EXTRACTOR" follows the key unless it is the Shapes network."""

OF_PICTURES = {
    "adherence": Metric(
        label="Adherence", group="adherence", better=HIGHER, percent=True, target=1.0, main=True,
        explained="Share of pictures with everything that was asked.",
    ),
    "clip_score": Metric(
        label="CLIP score", group="adherence", better=HIGHER,
        explained="100 times the cosine between picture and prompt.",
    ),
    "layout_diversity": Metric(
        label="Layout diversity", group="diversity", better=ONE, target=1.0, main=True,
        explained="How far apart the seeds of a prompt place its objects, relative to the truth.",
    ),
    "lpips_alex": Metric(
        label="LPIPS (Alex)", group="diversity", better=AS_TRUTH,
        explained=f"Mean perceptual distance between the seeds of a prompt. {NEAR}",
    ),
    "lpips_vgg": Metric(
        label="LPIPS (VGG)", group="diversity", better=AS_TRUTH,
        explained=f"Mean perceptual distance between the seeds of a prompt. {NEAR}",
    ),
    "pixel_std": Metric(
        label="Pixel spread", group="diversity", better=AS_TRUTH,
        explained="Standard deviation over the seeds of a prompt at each pixel; noise raises it. "
        f"{NEAR}",
    ),
    "sharpness": Metric(
        label="Sharpness", group="quality", better=ONE, target=1.0, main=True,
        explained="Steepness of edges relative to the truth.",
    ),
    "high_frequency": Metric(
        label="Fine detail", group="quality", better=ONE, target=1.0, main=True,
        explained="Power above half the Nyquist frequency relative to the truth; above 1 is noise.",
    ),
    "saturation": Metric(
        label="Saturation", group="quality", better=ONE, target=1.0,
        explained="Mean CIELAB chroma relative to the truth; above 1 is the loud colour of too "
        "much guidance.",
    ),
    "brightness": Metric(
        label="Brightness", group="quality", better=ONE, target=1.0,
        explained="Mean luminance relative to the truth.",
    ),
    "contrast": Metric(
        label="Contrast", group="quality", better=ONE, target=1.0,
        explained="Spread of the luminance relative to the truth.",
    ),
    "scale": Metric(
        label="Scale", group="quality", better=ONE, target=1.0,
        explained="Typical size of what is shown relative to the truth: above 1 the model zooms "
        "in.",
    ),
    "aesthetic": Metric(
        label="Aesthetic score", group="quality", better=HIGHER,
        explained="A linear head on CLIP features; it likes saturated pictures.",
    ),
    "preference": Metric(
        label="Preference score", group="quality", better=HIGHER,
        explained="What a model of human preference gives picture and prompt.",
    ),
    "kid_gap_closed": Metric(
        label="KID gap closed", group="fidelity", better=HIGHER, percent=True,
        explained="Share of the way from few to full steps that the student has gone.",
    ),
}  # fmt: skip

PARTS = {
    "adherence_": Metric(label="", group="adherence", better=HIGHER, percent=True),
    "category_": Metric(label="", group="categories", better=HIGHER, percent=True),
}
"""Shares of one part of what was asked, and of the prompts of one kind."""


def metric(key: str) -> Metric:
    """What is known of a metric; KeyError for one that nobody has described."""
    if key in OF_PICTURES:
        return OF_PICTURES[key]
    if key in OF_FEATURES:
        return OF_FEATURES[key]
    if key.endswith("_recovered"):
        lost = metric(key.removesuffix("_recovered"))
        return Metric(
            label=f"{lost.label} recovered", group="diversity", better=HIGHER, percent=True,
            explained="Share of the way between two models; undefined where there is no gap.",
        )  # fmt: skip
    for prefix, part in PARTS.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix).replace("_", " ").capitalize()
            return replace(part, label=name)
    kind, _, extractor = key.rpartition("_")
    if kind in OF_FEATURES and extractor in EXTRACTORS:
        found = OF_FEATURES[kind]
        return replace(found, label=f"{found.label} ({EXTRACTORS[extractor]})", main=False)
    raise KeyError(f"no metric is called {key!r}")
