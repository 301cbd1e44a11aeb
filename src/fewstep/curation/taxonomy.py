"""What kind of prompt it is: a label on each axis, by words that give it away.

Rules come first. Where no word tells, prototypes may: the mean embedding of what the rules are sure
of (`semantic.nearest`). Every label keeps how sure it is and which of the two has said it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml

from fewstep.curation.book import RESERVED
from fewstep.curation.clean import key
from fewstep.errors import UserError

OTHER = "other"
"""The label of an axis on which nothing is told."""


@dataclass(frozen=True)
class Label:
    """Of one axis."""

    name: str
    sure: float
    """Of the words that tell something on this axis, the share that tells this label; by
    prototypes, how much nearer it is than the next."""
    by: str
    """rule, prototype or nothing."""


NOTHING = Label(OTHER, 0.0, "nothing")


class Taxonomy:
    """axes  {axis: {label: {"words": [...], "say": [...]}}}"""

    def __init__(self, axes: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]) -> None:
        self.axes = {axis: tuple(labels) for axis, labels in axes.items()}
        self.phrases = {
            (axis, label): tuple(found["say"])
            for axis, labels in axes.items() for label, found in labels.items()
        }  # fmt: skip
        self.telling: dict[str, list[tuple[str, str]]] = {}
        """What a word or phrase tells: axes and labels."""
        for axis, labels in axes.items():
            for label, found in labels.items():
                for word in found["words"]:
                    self.telling.setdefault(key(str(word)), []).append((axis, label))
        self.longest: dict[str, int] = {}
        """By first word: how many words its phrases have at most."""
        for phrase in self.telling:
            first, *more = phrase.split()
            self.longest[first] = max(1 + len(more), self.longest.get(first, 0))

    def told(self, text: str) -> Iterator[tuple[str, str]]:
        """(axis, label) of every word and phrase of a text by `clean.key`; longer ones first, and
        of a phrase that tells something its words tell nothing more."""
        words, i = text.split(), 0
        while i < len(words):
            own = words[i]
            longest = max(self.longest.get(own, 0), self.longest.get(singular(own), 0))
            i += 1
            for n in range(longest, 0, -1):
                phrase = " ".join(words[i - 1 : i - 1 + n])
                found = self.telling.get(phrase) or self.telling.get(singular(phrase))
                if found:
                    yield from found
                    i += n - 1
                    break

    def classify(self, text: str) -> dict[str, Label]:
        """A label for each axis: the one that most words tell, of equals the first."""
        found: dict[str, Counter[str]] = {axis: Counter() for axis in self.axes}
        for axis, label in self.told(text):
            found[axis][label] += 1
        return {axis: most(counts) for axis, counts in found.items()}


def most(counts: Counter[str]) -> Label:
    if not counts:
        return NOTHING
    [(name, n)] = counts.most_common(1)
    return Label(name, n / counts.total(), "rule")


def singular(phrase: str) -> str:
    """Without the s of a plural."""
    return phrase[:-1] if phrase.endswith("s") and not phrase.endswith("ss") else phrase


def load(path: Path | None = None) -> Taxonomy:
    """A taxonomy from YAML; None is the one in the package. UserError says what is wrong in it."""
    if path is None:
        text = resources.files("fewstep.curation").joinpath("taxonomy.yaml").read_text("utf-8")
    else:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the taxonomy {path} cannot be read: {error}") from None
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"the taxonomy {path} is no YAML: {error}") from None
    check(found, path)
    return Taxonomy(found)


def check(found: object, path: Path | None) -> None:
    """UserError where it is not axes of labels with words and phrases."""
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"the taxonomy {path} holds no axes")
    for axis, labels in found.items():
        if not isinstance(axis, str) or axis in RESERVED or axis.endswith(("_sure", "_by")):
            raise UserError(
                f"an axis of the taxonomy {path} cannot be called {axis!r}; that is a column's name"
            )
        if not isinstance(labels, Mapping) or not labels:
            raise UserError(f"the axis {axis!r} of the taxonomy {path} holds no labels")
        for label, own in labels.items():
            if not isinstance(label, str) or label == OTHER:
                raise UserError(
                    f"a label of {axis} in the taxonomy {path} cannot be {label!r}; put a word in "
                    'quotes, and "other" is what no word tells'
                )
            for name in ("words", "say"):
                texts = own.get(name) if isinstance(own, Mapping) else None
                if not isinstance(texts, list) or not all(str(text).strip() for text in texts):
                    raise UserError(
                        f"{axis}.{label} of the taxonomy {path} needs a list {name!r} of texts"
                    )
