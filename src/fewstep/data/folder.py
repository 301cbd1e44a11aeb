"""A folder of pictures with captions: what can be trained on, and what is wrong with the rest.

    cat.jpg  cat.txt               a picture and its captions, one a line
             cat.enhanced.txt      fuller prompts, where `context` is "prompt"
    10_dogs/dog.png ...            a subfolder whose pictures come ten times as often

Whatever is wrong with a row is told and the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fewstep.data.buckets import Fit, Size, fit
from fewstep.data.captions import CaptionError, paired, read_captions, triggered
from fewstep.data.further import file_of, in_turn, read_further
from fewstep.data.kinds import (
    CAPTIONS,
    ENHANCED,
    beside,
    caption_stem,
    folders,
    is_foreign,
    is_picture,
    known_files,
    name_in,
)
from fewstep.data.pictures import PictureError, colour, content_hash, examined, frames
from fewstep.errors import UserError
from fewstep.runs import user_path

MOST_CROPPED = 0.5
"""A picture that would lose more of its area is left out."""

Context = Literal["none", "picture", "prompt"]
Fault = Literal[
    "no caption", "empty caption", "bad caption", "no enhanced prompt", "no picture", "unreadable",
    "too long or too wide", "duplicate",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    path: str | None = None
    """A folder of pictures, each with a .txt of the same name: one caption a line, of which one is
    drawn each time. Subfolders named N_NAME come N times as often, any others are not read."""
    size: int = 1024
    """Side of the square whose area all buckets have, a multiple of what the model asks for."""
    trigger: str | None = None
    """A word that calls the concept: it replaces [trigger] in a caption, or is put in front, with a
    comma, of one that has neither."""
    background: str = "white"
    """What is put behind transparent pictures: a name or #rrggbb."""
    repeats: int = 1
    """How often each picture comes in an epoch: more of them mix few pictures more loosely."""
    context: Context = "none"
    """What a teacher sees besides the caption: the picture itself, or instead of the caption a
    fuller prompt, in a file NAME.enhanced.txt with one line for each caption or one for all."""
    prompts: str | None = None
    """A text file in the folder: further prompts that no picture shows, one a line, for a teacher
    that sees pictures. Each is read beside one of them, in turn, and as likely as a caption."""
    regularisation: str | None = None
    """A second such folder, of pictures that the model should go on drawing as it does; read
    without trigger, context and prompts, where data.prior is folder."""

    def __post_init__(self) -> None:
        for name in ("size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.folder.{name} must be >= 1, got {getattr(self, name)}")
        if self.trigger is not None and not self.trigger.strip():
            raise ValueError("data.folder.trigger must be a word, or none")
        try:
            colour(self.background)
        except ValueError as error:
            raise ValueError(f"data.folder.background: {error}") from None

    def of_regularisation(self) -> FolderConfig | None:
        """How the second folder is read."""
        if self.regularisation is None:
            return None
        return replace(
            self, path=self.regularisation, regularisation=None, trigger=None, context="none",
            repeats=1, prompts=None,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row that can be trained on."""

    file: str
    """Its name within the folder."""
    content: str
    """Hash of its pixels."""
    height: int
    width: int
    fit: Fit
    captions: tuple[str, ...]
    """As they are read by the model, with the trigger word."""
    enhanced: tuple[str, ...] = ()
    """One for each caption, where the folder's context is "prompt"."""
    prompts: tuple[str, ...] = ()
    """Further ones that are read beside it."""
    repeats: int = 1
    doubt: str | None = None
    """What should be told of its colours."""


@dataclass(frozen=True)
class Remark:
    """What is wrong with a file."""

    file: str
    fault: Fault
    why: str


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Everything that was found; at least one picture."""

    cfg: FolderConfig
    pictures: tuple[Picture, ...]
    left_out: tuple[Remark, ...]
    warnings: tuple[str, ...]
    """Of pictures that are trained on."""
    ignored: tuple[str, ...]
    """Files of no known kind, hidden files and subfolders."""

    def __post_init__(self) -> None:
        if not self.pictures:
            raise UserError(
                f"the folder {self.cfg.path} has no picture to train on ({self.faults()}): give "
                f"each picture a .txt of the same name with a caption{self.also()}"
            )

    def faults(self) -> str:
        """How often which, and an example of the most frequent one."""
        counts = Counter(remark.fault for remark in self.left_out)
        told = ", ".join(f"{n} x {fault}" for fault, n in counts.items())
        told = f"{told or 'nothing in it is a picture'}; {len(self.ignored)} other files"
        for fault, _ in counts.most_common(1):
            first = next(remark for remark in self.left_out if remark.fault == fault)
            told += f"; {first.file}: {first.why}"
        return told

    def also(self) -> str:
        """What else to do where there are subfolders that are not read."""
        named = next((name for name in self.ignored if name.endswith("/")), None)
        if named is None:
            return ""
        return f", and call a subfolder by how often its pictures come, such as 1_{named}"


def read_folder(cfg: FolderConfig, sizes: Sequence[Size]) -> Folder:
    """Look at every file, decode every picture and choose its bucket among `sizes`.

    Rows are in the order of their names. UserError where there is no folder or no good row.
    """
    assert cfg.path is not None  # DataConfig checks that there is one
    root = user_path(cfg.path)
    if not root.is_dir():
        why = "is a file: name the folder it is in" if root.is_file() else "does not exist"
        raise UserError(f"the folder of pictures {cfg.path!r} {why}")
    pictures: dict[str, Picture] = {}
    left_out: list[Remark] = []
    warnings, ignored = list[str](), list[str]()
    further = read_further(root, cfg.prompts, cfg.trigger)
    other = None if cfg.prompts is None else file_of(root, cfg.prompts)
    for folder, repeats in folders(root, ignored):
        files = known_files(folder, root, ignored, but=other)
        stems = {path.stem for path in files if is_picture(path)}
        for path in files:
            name = name_in(root, path)
            if not path.is_file():
                left_out.append(Remark(name, "unreadable", "it leads to no file"))
                continue
            if not is_picture(path):
                if caption_stem(path) not in stems:
                    left_out.append(Remark(name, "no picture", "there is no picture of its name"))
                continue
            found = read_row(cfg, path, name, sizes, cfg.repeats * repeats)
            if isinstance(found, Remark):
                left_out.append(found)
            elif (first := pictures.get(found.content)) is not None:
                left_out.append(Remark(name, "duplicate", f"it is the same as {first.file}"))
            else:
                pictures[found.content] = found
                warnings += [f"{name}: {text}" for text in doubts(path, found)]
    return Folder(
        cfg=cfg, pictures=in_turn(further, pictures.values()), left_out=tuple(left_out),
        warnings=tuple(warnings), ignored=tuple(ignored),
    )  # fmt: skip


def read_row(
    cfg: FolderConfig, path: Path, name: str, sizes: Sequence[Size], repeats: int
) -> Picture | Remark:
    """One picture with its captions, or the first thing that is wrong with it."""
    if is_foreign(path):
        kind = path.suffix.lower()
        return Remark(name, "unreadable", f"a {kind} is not read: save it as .jpg or .png")
    text = next((found for kind in CAPTIONS if (found := beside(path, kind))), None)
    if text is None:
        return Remark(name, "no caption", f"there is no {path.stem}{CAPTIONS[0]} beside it")
    try:
        written = read_captions(text)
        if not written:
            return Remark(name, "empty caption", f"{text.name} holds no caption")
        captions = tuple(triggered(caption, cfg.trigger) for caption in written)
        enhanced: tuple[str, ...] = ()
        if cfg.context == "prompt":
            fuller = beside(path, ENHANCED)
            if fuller is None:
                why = f"there is no {path.stem}{ENHANCED} beside it"
                return Remark(name, "no enhanced prompt", why)
            lines = tuple(triggered(line, cfg.trigger) for line in read_captions(fuller))
            enhanced = paired(lines, captions)
        image, doubt = examined(path, cfg.background)
    except CaptionError as error:
        return Remark(name, "bad caption", str(error))
    except PictureError as error:
        return Remark(name, "unreadable", str(error))
    placed = fit(image.height, image.width, sizes)
    if placed.cropped > MOST_CROPPED:
        return Remark(
            name, "too long or too wide",
            f"of its {image.width} x {image.height} pixels {placed.cropped:.0%} would be cropped",
        )  # fmt: skip
    return Picture(
        file=name, content=content_hash(image), height=image.height, width=image.width,
        fit=placed, captions=captions, enhanced=enhanced, repeats=repeats, doubt=doubt,
    )  # fmt: skip


def doubts(path: Path, picture: Picture) -> Iterator[str]:
    """What the user should know of a picture that is trained on."""
    if picture.doubt is not None:
        yield picture.doubt
    if picture.fit.scale > 1:
        yield f"it is smaller than its bucket and enlarged {picture.fit.scale:.2f} times"
    try:
        if (n := frames(path)) > 1:
            yield f"it has {n} frames, of which the first is read"
    except PictureError as error:
        yield str(error)
