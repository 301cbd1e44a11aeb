"""One spelling for one prompt, and the rules that a prompt must keep to be used."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from fewstep.errors import UserError

KEPT = "\u200c\u200d"
"""Joiners: without them letters of Persian and Hindi, and emoji of several parts, fall apart."""
QUOTES = (('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))
Detect = Callable[[str], str]
"""The ISO 639-1 code of a text's language."""


def normalised(text: str) -> str:
    """The prompt as it is used: composed (NFC), without control and format characters but joiners,
    one space where there was any white space, not in quotes as a whole."""
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", "".join(map(visible, text)))
    text = " ".join(text.split())
    for left, right in QUOTES:
        inner = text[1:-1]
        quoted = len(text) > 1 and text.startswith(left) and text.endswith(right)
        if quoted and not {left, right} & set(inner):
            return inner.strip()
    return text


@lru_cache(maxsize=4096)
def visible(letter: str) -> str:
    """The letter, a space for a control character, nothing for a mark of format."""
    category = unicodedata.category(letter)
    if category == "Cc":
        return " "
    return "" if category in ("Cf", "Co", "Cs") and letter not in KEPT else letter


class Words(dict[int, int]):
    """For `str.translate`: a space for what is no part of a word (punctuation, separators,
    control), but for the sign of C#. Marks of vowels, signs and emoji are parts."""

    def __missing__(self, point: int) -> int:
        letter = chr(point)
        apart = unicodedata.category(letter)[0] in "PZC" and letter != "#"
        self[point] = ord(" ") if apart else point
        return self[point]


WORDS = Words()


def key(text: str) -> str:
    """What two prompts share that differ in case, punctuation and compatible letters alone; the
    words of a normalised prompt, one space between them. Where there is no word it is the whole."""
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(WORDS).split()) or folded


@lru_cache(maxsize=65536)
def script(letter: str) -> str:
    """The first word of a letter's Unicode name, such as "latin", "cyrillic" or "cjk"."""
    return unicodedata.name(letter, "unknown").split()[0].split("-")[0].lower()


@lru_cache(maxsize=1)
def scripts() -> frozenset[str]:
    """Of all letters of the basic plane."""
    return frozenset(script(letter) for letter in map(chr, range(0x10000)) if letter.isalpha())


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a prompt must keep; checked in this order."""

    least_words: int = 1
    most_characters: int = 2000
    scripts: tuple[str, ...] = ()
    """Such as latin, cyrillic, cjk: nine of ten letters must belong to them. None allows all."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes such as en; needs py3langid. None allows all."""

    def __post_init__(self) -> None:
        if unknown := set(self.scripts) - scripts():
            raise UserError(
                f"--rules.scripts: there is no script {sorted(unknown)[0]!r}; they are named like "
                "latin, cyrillic, cjk"
            )
        if odd := [name for name in self.languages if not (name.islower() and len(name) == 2)]:
            raise UserError(f"--rules.languages: {odd[0]!r} is no code like en or de")
        if self.least_words < 0 or self.most_characters < 1:
            raise UserError(
                "least_words must be >= 0 and most_characters >= 1, got "
                f"{self.least_words} and {self.most_characters}"
            )

    def broken(self, text: str, detect: Detect | None) -> str | None:
        """Which rule a normalised prompt breaks, if any; `detect` is needed for languages."""
        if len(text) > self.most_characters:
            return f"has more than {self.most_characters} characters"
        if len(text.split()) < self.least_words:
            return f"has fewer than {self.least_words} words"
        if self.scripts and not in_scripts(text, self.scripts):
            return f"is not written in {' or '.join(self.scripts)}"
        if self.languages:
            assert detect is not None
            if (found := detect(text)) not in self.languages:
                return f"is in {found}, not in {' or '.join(self.languages)}"
        return None


def in_scripts(text: str, scripts: tuple[str, ...]) -> bool:
    """Whether nine of ten letters are; a text without letters is in every script."""
    if text.isascii() and "latin" in scripts:
        return True
    letters = [letter for letter in text if letter.isalpha()]
    return 10 * sum(script(letter) in scripts for letter in letters) >= 9 * len(letters)


def detector() -> Detect:
    """Languages by py3langid; UserError where it is not installed."""
    try:
        import py3langid  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            "rules.languages needs py3langid: pip install 'fewstep[prompts]', or use rules.scripts"
        ) from None
    return lambda text: py3langid.classify(text)[0]
