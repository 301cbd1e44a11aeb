"""What a teacher in context is asked for: the captions of its pictures, and prompts new to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fewstep.data.captions import triggered
from fewstep.data.folder import Folder, Picture


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A pair of pictures: one drawn in context, one without."""

    prompt: str
    """What the student is told."""
    told: str
    """What the teacher is told."""
    picture: Picture
    """Read beside it where the context is a picture, and what it shows in any case."""
    seed: int
    novel: bool
    """Whether the prompt is not the picture's own caption."""


def asked(folder: Folder, prompts: tuple[str, ...], n: int) -> list[Asked]:
    """n pairs, captions and new prompts in turn, each list from its start with the next seed when
    it has run out. CaptionError for a prompt with a place for a trigger word that is not set."""
    own = captions(folder)
    new = new_prompts(folder, prompts, own) if folder.cfg.context == "picture" else []
    turns = [own, new] if new else [own]
    found: list[Asked] = []
    for i in range(n):
        place, which = divmod(i, len(turns))
        again, row = divmod(place, len(turns[which]))
        found.append(replace(turns[which][row], seed=again))
    return found


def captions(folder: Folder) -> list[Asked]:
    """Each caption with its own picture: the first of every picture, then the second."""
    rows: dict[tuple[int, str, str], Asked] = {}
    for picture in folder.pictures:
        pairs = zip(picture.captions, picture.enhanced or picture.captions, strict=True)
        for i, (caption, fuller) in enumerate(dict(pairs).items()):
            one = Asked(prompt=caption, told=fuller, picture=picture, seed=0, novel=False)
            rows[i, picture.file, caption] = one
    return [rows[key] for key in sorted(rows, key=lambda key: key[:2])]


def new_prompts(folder: Folder, prompts: tuple[str, ...], own: list[Asked]) -> list[Asked]:
    """The prompts, each beside the next of the pictures; without any, each caption beside the next
    picture. What is a caption of the picture already is left out.

    Not the folder's further prompts: they ask for what no picture shows, so that nearness to the
    pictures says little of them. With these a style passed that the teacher cannot draw, for it
    had copied colours.
    """
    pictures = folder.pictures
    texts = dict.fromkeys(triggered(prompt, folder.cfg.trigger) for prompt in prompts)
    if texts:
        found = [
            Asked(prompt=text, told=text, picture=pictures[i % len(pictures)], seed=0, novel=True)
            for i, text in enumerate(texts)
        ]
    else:
        following = [*pictures[1:], pictures[0]]
        after = {picture.file: then for picture, then in zip(pictures, following, strict=True)}
        found = [replace(one, picture=after[one.picture.file], novel=True) for one in own]
    return [one for one in found if one.prompt not in one.picture.captions]
