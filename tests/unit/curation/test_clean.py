"""One spelling, one key, and rules that are told by name."""

from __future__ import annotations

import unicodedata

import pytest

from fewstep.curation.clean import Rules, key, normalised
from fewstep.errors import UserError

SCIENTIST = "\U0001f469\u200d\U0001f52c at work"
RUSSIAN = "\u0430\u0432\u0442\u043e\u0431\u0443\u0441"


@pytest.mark.fault(19)
@pytest.mark.parametrize(("raw", "clean"), [
    ("  a  red\tbus\n", "a red bus"), ('"a red bus"', "a red bus"), ("'a' and 'b'", "'a' and 'b'"),
    ("\u201ca sign\u201d", "a sign"), ("a\u0000b\u200bc", "a bc"), ("\ufeffa", "a"),
    ("cafe\u0301", "caf\u00e9"), (SCIENTIST, SCIENTIST),
    ("\u202eabc", "abc"), ("e\u200b\u0301", "\u00e9"), ('""', ""), ('"', '"'),
])  # fmt: skip
def test_normalised(raw: str, clean: str) -> None:
    assert normalised(raw) == clean == normalised(clean)
    assert unicodedata.is_normalized("NFC", clean)


def test_the_key_forgets_case_punctuation_and_compatible_letters() -> None:
    assert key("A Red, BUS!") == key("a red bus") == "a red bus"
    assert key("\uff21 \ufb01sh") == "a fish" and key("STRASSE") == key("stra\u00dfe")
    assert key("8-bit_art") == "8 bit art"
    # vowel signs, emoji and signs tell prompts apart
    assert key("\u0926\u093e\u0928") != key("\u0926\u093f\u0928")
    assert key("a face \U0001f600") != key("a face \U0001f621") and key("C++") != key("C#")
    assert key("\U0001f431") == "\U0001f431" and key("?!") == "?!"
    assert key("a red bus") != key("a red bush")


@pytest.mark.fault(19)
def test_rules_say_which_one_is_broken() -> None:
    rules = Rules(least_words=2, most_characters=20, scripts=("latin",))
    assert rules.broken("a bus", None) is None
    assert rules.broken("bus", None) == "has fewer than 2 words"
    assert rules.broken("a bus " * 10, None) == "has more than 20 characters"
    assert (
        rules.broken(
            "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u0430\u0432\u0442\u043e\u0431\u0443\u0441",
            None,
        )
        == "is not written in latin"
    )
    assert rules.broken("12 34", None) is None  # no letters at all
    # one letter in ten may be another's
    assert rules.broken("abcdefg hi\u0436", None) is None
    assert rules.broken("abcdef \u0436", None) == "is not written in latin"
    both = Rules(scripts=("latin", "cyrillic"))
    assert both.broken(f"bus {RUSSIAN}", None) is None
    assert Rules(scripts=("cyrillic",)).broken("bus", None) == "is not written in cyrillic"
    german = Rules(languages=("de",))
    assert german.broken("ein Bus", lambda text: "de") is None
    assert german.broken("a bus", lambda text: "en") == "is in en, not in de"
    for values, said in (
        ({"least_words": -1}, "least_words"), ({"scripts": ("Latin",)}, "no script 'Latin'"),
        ({"languages": ("EN",)}, "'EN' is no code"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            Rules(**values)
