"""Labels by words and phrases, how sure they are, and phrases that fall into their own kind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fewstep.curation import fill
from fewstep.curation.clean import key
from fewstep.curation.taxonomy import NOTHING, Label, Taxonomy, load
from fewstep.errors import UserError

KINDS = load()


def labels(text: str) -> list[str]:
    return [label.name for label in KINDS.classify(key(text)).values()]


@pytest.mark.parametrize(("text", "found"), [
    ("An oil painting of two dogs, close-up", ["animals", "painting", "close"]),
    ("a photo of a New York street, seen from above", ["cities", "photograph", "above"]),
    ("8-bit castle", ["buildings", "pixel art", "other"]),
    ("a living room, wide-angle", ["interiors", "other", "wide"]),
    ("something indescribable", ["other", "other", "other"]),
    ("", ["other", "other", "other"]),
])  # fmt: skip
def test_words_and_phrases_tell(text: str, found: list[str]) -> None:
    assert labels(text) == found


def test_the_package_has_fourteen_subjects_seven_styles_and_eight_cameras() -> None:
    assert {axis: len(own) for axis, own in KINDS.axes.items()} == {
        "subject": 14, "style": 7, "camera": 8,
    }  # fmt: skip


def test_a_phrase_hides_its_words_and_shares_are_sure() -> None:
    cream = {"words": ["cream", "milk"], "say": ["cream"]}
    ice = {"words": ["ice cream", "ice"], "say": ["ice"]}
    small = Taxonomy({"food": {"cream": cream, "ice": ice}})
    assert small.classify("ice creams and cream and milk")["food"] == Label("cream", 2 / 3, "rule")
    assert small.classify("ice cream")["food"] == Label("ice", 1.0, "rule")
    assert small.classify("milk ice")["food"] == Label("cream", 0.5, "rule")  # the first of equals
    assert small.classify("glass")["food"] == NOTHING


def test_every_phrase_of_the_package_belongs_to_its_own_label() -> None:
    """And tells nothing on the other axes."""
    for (axis, label), phrases in KINDS.phrases.items():
        for phrase in phrases:
            found = {name: own.name for name, own in KINDS.classify(key(phrase)).items()}
            assert found == {**dict.fromkeys(KINDS.axes, "other"), axis: label}, phrase


def test_phrases_fill_what_is_wanting() -> None:
    wanting = fill.wanting({("people", "craft", "side"): 3, ("food", "other", "side"): 9}, KINDS, 4)
    assert len(wanting) == 14 * 7 * 8 and wanting["people", "craft", "side"] == 1
    assert ("food", "other", "side") not in wanting
    stratum = ("food", "painting", "above")
    made = list(fill.from_phrases(KINDS, stratum, seed=0))
    assert len(made) == len(set(made)) == 3 * 3 * 2
    assert "an oil painting of a bowl of ramen, seen from above" in made
    assert all(fill.fits(KINDS, key(text), stratum) for text in made)
    assert made == list(fill.from_phrases(KINDS, stratum, seed=0))
    assert made != list(fill.from_phrases(KINDS, stratum, seed=1))
    firsts = {s: next(fill.from_phrases(KINDS, s, 0)) for s in wanting}
    assert [s for s, text in firsts.items() if not fill.fits(KINDS, key(text), s)] == []


def test_a_command_is_asked_by_json_and_its_failure_is_told(tmp_path: Path) -> None:
    script = tmp_path / "write.py"
    script.write_text(
        "import json, sys\nasked = json.load(sys.stdin)\nprint(json.dumps(asked))\nprint()\n"
        "for i in range(asked['count']): print('prompt', i)\n"
    )
    command = f"{sys.executable} {script}"
    stratum = ("food", "painting", "above")
    first, *more = fill.from_command(command, KINDS, stratum, 2, ["an example"])
    assert json.loads(first) == {
        "count": 2, "want": {"subject": "food", "style": "painting", "camera": "above"},
        "examples": ["an example"],
    }  # fmt: skip
    assert more == ["prompt 0", "prompt 1"]
    script.write_text("import sys\nsys.exit('no model there')")
    with pytest.raises(UserError, match="ended with 1: no model there"):
        list(fill.from_command(command, KINDS, stratum, 2, []))
    with pytest.raises(UserError, match=r"--fill\.command is empty"):
        list(fill.from_command(" ", KINDS, stratum, 2, []))
    with pytest.raises(UserError, match="did not work"):
        list(fill.from_command("no-such-command", KINDS, stratum, 2, []))


@pytest.mark.parametrize(("text", "said"), [
    ("", "holds no axes"), ("subject: 3", "the axis 'subject'"), ("a: [", "is no YAML"),
    ("subject: {food: {words: [apple]}}", "subject.food .* needs a list 'say'"),
    ("subject: {food: {words: apple, say: [a]}}", "needs a list 'words'"),
    ("text: {food: {words: [a], say: [a]}}", "cannot be called 'text'"),
    ("subject: {yes: {words: [a], say: [a]}}", "cannot be True"),
    ("subject: {other: {words: [a], say: [a]}}", "cannot be 'other'"),
])  # fmt: skip
def test_a_taxonomy_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "kinds.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load(path)
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "missing.yaml")
