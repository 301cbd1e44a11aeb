"""What was found in a folder of pictures: as lines to read, and as JSON that a run keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from textwrap import shorten
from typing import Any

from fewstep.data.folder import Folder, Picture
from fewstep.data.pictures import LIBRARY

SHOWN = 100
"""Letters of a caption in a line."""
BRIEF = 8
"""Lines of what is wrong that a run shows before it begins."""


def facts(folder: Folder) -> dict[str, Any]:
    """Every row, what is wrong with files, and how many pictures each bucket has, as JSON."""
    return {
        "path": folder.cfg.path,
        "library": LIBRARY,
        "rows": [row_facts(picture) for picture in folder.pictures],
        "buckets": bucket_counts(folder),
        "left_out": [vars(remark) for remark in folder.left_out],
        "warnings": list(folder.warnings),
        "ignored": list(folder.ignored),
    }


def row_facts(picture: Picture) -> dict[str, Any]:
    height, width = picture.fit.size
    return {
        "file": picture.file,
        "content": picture.content,
        "pixels": [picture.width, picture.height],
        "bucket": [width, height],
        "cropped": round(picture.fit.cropped, 4),
        "scale": round(picture.fit.scale, 4),
        "repeats": picture.repeats,
        "captions": list(picture.captions),
        "enhanced": list(picture.enhanced),
        "prompts": list(picture.prompts),
    }


def bucket_counts(folder: Folder) -> dict[str, int]:
    """Pictures in each bucket "WIDTH x HEIGHT", the fullest first."""
    sizes = Counter(picture.fit.size for picture in folder.pictures)
    return {f"{size.width} x {size.height}": n for size, n in sizes.most_common()}


def lines(folder: Folder) -> list[str]:
    """The same for a person: a line for each row and each thing that is wrong, then the sums."""
    told: list[str] = []
    for picture in folder.pictures:
        height, width = picture.fit.size
        more = f" and {n} more" if (n := len(picture.captions) - 1) else ""
        often = f", {picture.repeats} times an epoch" if picture.repeats > 1 else ""
        told.append(
            f"{picture.file}: {picture.width} x {picture.height} to {width} x {height}, "
            f"{picture.fit.cropped:.0%} cropped{often}: "
            f"{shorten(picture.captions[0], SHOWN, placeholder=' ...')!r}{more}"
        )
    told += [f"left out: {r.file}: {r.fault}: {r.why}" for r in folder.left_out]
    told += [f"warning: {text}" for text in folder.warnings]
    told += [f"ignored: {name}" for name in folder.ignored]
    told = [" ".join(line.splitlines()) for line in told]  # a name may hold a line break
    captions = sum(len(picture.captions) for picture in folder.pictures)
    prompts = sum(len(picture.prompts) for picture in folder.pictures)
    sizes = ", ".join(f"{size} ({n})" for size, n in bucket_counts(folder).items())
    worst = max(picture.fit.cropped for picture in folder.pictures)
    told.append(
        f"{folder.cfg.path}: {len(folder.pictures)} pictures with {captions} captions"
        f"{and_prompts(prompts)}, {len(folder.left_out)} left out; at most {worst:.0%} of a "
        f"picture cropped; buckets {sizes}"
    )
    return told


def brief(found: Mapping[str, Any]) -> list[str]:
    """What a run says of a folder from its `facts`: what is wrong with the first files, then the
    sum. A run without --dry-run must not train on half of a folder in silence."""
    left_out, warnings = found["left_out"], found["warnings"]
    told = [f"left out: {r['file']}: {r['fault']}: {r['why']}" for r in left_out]
    told += [f"warning: {text}" for text in warnings]
    if more := len(told[BRIEF:]):
        told[BRIEF:] = [f"and {more} more, see data.json"]
    prompts = sum(len(row["prompts"]) for row in found["rows"])
    told.append(
        f"{found['path']}: training on {len(found['rows'])} pictures{and_prompts(prompts)}, "
        f"{len(left_out)} left out, {len(warnings)} warnings"
    )
    return [" ".join(line.splitlines()) for line in told]


def and_prompts(n: int) -> str:
    """The number of further prompts, to follow what else there is of a folder."""
    return f" and {n} further prompts" if n else ""
