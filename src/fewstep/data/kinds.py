"""Which files of a folder are pictures and captions and which subfolders count, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PICTURES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
)  # fmt: skip
FOREIGN = (
    ".heic", ".heif", ".jxl", ".dng", ".arw", ".cr2", ".cr3", ".nef", ".orf", ".raf", ".rw2",
    ".psd", ".svg",
)  # fmt: skip
"""Pictures of phones, cameras and editors, which Pillow does not decode."""
CAPTIONS = (".txt", ".caption")
"""The first that is there is read."""
ENHANCED = ".enhanced.txt"


def is_known(path: Path) -> bool:
    known = path.suffix.lower() in (*PICTURES, *FOREIGN, *CAPTIONS)
    return known and not path.name.startswith(".")


def is_picture(path: Path) -> bool:
    """Of any kind, read or not."""
    return path.suffix.lower() in (*PICTURES, *FOREIGN)


def is_foreign(path: Path) -> bool:
    return path.suffix.lower() in FOREIGN


def caption_stem(path: Path) -> str:
    """The name of the picture that a text file belongs to."""
    if path.name.lower().endswith(ENHANCED):
        return path.name[: -len(ENHANCED)]
    return path.stem


def beside(picture: Path, ending: str) -> Path | None:
    """The file of the picture's name with this ending, in small letters or in capitals (.txt, .TXT
    or .Txt); None where there is none."""
    spelled = (picture.with_suffix(text) for text in (ending, ending.upper(), ending.title()))
    return next((path for path in spelled if path.is_file()), None)


def folders(root: Path, ignored: list[str]) -> Iterator[tuple[Path, int]]:
    """The folder and its subfolders N_NAME, with how often their pictures come; the names of
    other subfolders go to `ignored`."""
    yield root, 1
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        if named := re.fullmatch(r"([1-9]\d*)_.+", path.name):
            yield path, int(named[1])
        else:
            ignored.append(f"{path.name}/")


def known_files(folder: Path, root: Path, ignored: list[str], but: Path | None) -> list[Path]:
    """The pictures and captions of a folder within `root`, in the order of their names; the names
    of other files go to `ignored`. The file `but` is none of these."""
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    if but is not None:
        files = [path for path in files if not (path.is_file() and path.samefile(but))]
    ignored += [name_in(root, path) for path in files if not is_known(path)]
    return [path for path in files if is_known(path)]


def name_in(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
