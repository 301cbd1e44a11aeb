"""All stages on small lists: what becomes of each row, going on, and doing anew what changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.unit.curation.test_semantic import bert

from fewstep.curation import steps
from fewstep.curation.config import Curation, FillConfig, Source
from fewstep.curation.outputs import write
from fewstep.curation.pipeline import curate
from fewstep.curation.splits import Shares
from fewstep.curation.strata import Quota
from fewstep.errors import UserError

SCENE = "a {} on a narrow street in the rain with many small lights and a long shadow, {}"
SUBJECTS = ("fox", "castle", "robot", "tulip", "bus", "lamp")
CAMERAS = ("close-up", "wide shot", "low angle")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "a.txt").write_text("".join(
        f"{style} of {SCENE.format(subject, camera)}\n"
        for style in ("photo", "oil painting") for subject in SUBJECTS for camera in CAMERAS
    ))  # fmt: skip
    (tmp_path / "b.jsonl").write_text(
        '{"prompt": "  PHOTO of ' + SCENE.format("fox", "close-up") + '!"}\n'
        '{"prompt": "two cups"}\n{"prompt": 3}\n{"prompt": ""}\n{"prompt": "cup"}\n'
        '{"prompt": "Two  cups."}\n{"prompt": "a green door in a yellow wall"}\n'
    )
    (tmp_path / "evaluation.txt").write_text("a green door in a yellow wall\nthe moon\n")
    return Source(
        files=[tmp_path / "a.txt", tmp_path / "b.jsonl"], against=[tmp_path / "evaluation.txt"]
    )


CFG = Curation(rules=replace(Curation().rules, least_words=2), near=None)


def test_what_becomes_of_each_row(source: Source, tmp_path: Path) -> None:
    found = curate(source, CFG, tmp_path / "out").book
    assert found.counts() == {
        "kept": 37, "repeats": 2, "unreadable": 2, "against a rule": 1, "leaks": 1,
    }  # fmt: skip
    told = {(s, n): (why, of) for s, n, why, of in
            zip(found.sources, found.lines, found.why, found.of, strict=True)}  # fmt: skip
    first = f"photo of {SCENE.format('fox', 'close-up')}"
    assert told["b.jsonl", 1] == ("repeats", first)
    assert told["b.jsonl", 3] == ("unreadable: holds int where text is wanted", None)
    assert told["b.jsonl", 5] == ("against a rule: has fewer than 2 words", None)
    assert told["b.jsonl", 6] == ("repeats", "two cups")
    assert told["b.jsonl", 7] == ("leaks: equal", "a green door in a yellow wall")
    row = found.texts.index(first)
    # "street" and "shadow" are there too, and the fox is not alone: half a subject
    assert [found.labels[axis][row] for axis in found.labels] == ["animals", "photograph", "close"]
    assert found.sure["subject"][row] == 0.5 and found.by["camera"][row] == "rule"
    assert len(set(found.ids)) == len(set(found.texts))


def test_what_nearly_repeats_goes_by_the_threshold(source: Source, tmp_path: Path) -> None:
    loose = curate(source, replace(CFG, near=0.75), tmp_path / "out").book
    counts = loose.counts()
    assert counts["nearly repeats"] > 0 and counts["kept"] + counts["nearly repeats"] == 37
    for why, of, likeness in zip(loose.why, loose.of, loose.likeness, strict=True):
        if why == "nearly repeats":
            assert loose.why[loose.texts.index(str(of))] is None and 0.75 <= (likeness or 0) < 1


def test_it_goes_on_and_does_anew_what_a_change_reaches(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("clean", "drop_near", "drop_leaks", "label", "sample"):
        real = getattr(steps, name)

        def run(*args: object, real: object = real, name: str = name) -> object:
            done.append(name)
            return real(*args)  # pyright: ignore[reportCallIssue]

        monkeypatch.setattr(steps, name, run)

    def again(cfg: Curation) -> list[str]:
        done.clear()
        curate(source, cfg, out)
        return list(done)

    out = tmp_path / "out"
    assert again(CFG) == ["clean", "drop_leaks", "drop_near", "label", "sample"]
    assert again(CFG) == []
    assert again(replace(CFG, quota=Quota(total=10))) == ["sample"]
    assert again(replace(CFG, leak=0.9)) == ["drop_leaks", "drop_near", "label", "sample"]
    stage = out / "stages" / "1_leaks.parquet"
    stage.write_bytes(stage.read_bytes()[:-7])  # cut by a full disk
    for later in ("2_near", "3_labels", "4_sample"):
        (out / "stages" / f"{later}.parquet").unlink()
    assert again(replace(CFG, leak=0.9)) == ["drop_leaks", "drop_near", "label", "sample"]
    source.files[1].write_text('{"prompt": "two cups"}\n')
    assert again(replace(CFG, leak=0.9))[0] == "clean"


def test_an_interrupted_run_ends_in_the_very_same_files(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = replace(CFG, quota=Quota(total=20, cap=4), split=Shares(val=0.1, test=0.1))
    names = ("train.txt", "val.txt", "test.txt", "prompts.parquet", "dropped.parquet")

    def finish(out: Path) -> dict[str, bytes]:
        write(curate(source, cfg, out), cfg, out, "fewstep prompts")
        return {name: (out / name).read_bytes() for name in names}

    whole = finish(tmp_path / "whole")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(steps, "label", killed)
        with pytest.raises(KeyboardInterrupt):
            curate(source, cfg, tmp_path / "parts")
    assert finish(tmp_path / "parts") == whole
    texts = [whole[f"{name}.txt"].decode().splitlines() for name in ("train", "val", "test")]
    assert sum(map(len, texts)) == 20 == len({text for own in texts for text in own})
    table = pq.read_table(tmp_path / "whole" / "prompts.parquet").to_pylist()
    assert {row["text"] for row in table if row["split"] == "train"} == set(texts[0])
    in_order = [row["text"] for row in table if row["split"] == "train"]
    assert in_order != texts[0]  # the lists are shuffled: their first prompts are of every kind
    dropped = pq.read_table(tmp_path / "whole" / "dropped.parquet").to_pylist()
    assert len(table) + len(dropped) == 43
    assert sum(row["why"] == "over quota" for row in dropped) == 17


def test_gaps_are_filled_with_what_fits_and_is_new(source: Source, tmp_path: Path) -> None:
    cfg = replace(CFG, fill=FillConfig(floor=1))
    found = curate(source, cfg, tmp_path / "out")
    book = found.book
    made = [i for i, name in enumerate(book.sources) if name == "filled"]
    strata = steps.strata_of(book, made)
    there = steps.strata_of(book, [i for i in book.kept() if i not in set(made)])
    assert len(made) == len(set(strata)) and not set(strata) & set(there)
    assert len(set(strata) | {s for s in there if "other" not in s}) == 14 * 7 * 8
    assert len({book.texts[i] for i in made}) == len(made)
    facts = write(found, cfg, tmp_path / "out", "fewstep prompts")
    assert facts["axes"]["style"]["gaps"] == {} and facts["sources"]["filled"] == len(made)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["read"] == len(book) - len(
        made
    )
    assert facts["filled"] == len(made)
    assert sum(facts["lengths"].values()) == sum(facts["splits"].values()) == len(book.kept())


def test_a_prompt_is_not_lost_with_one_that_leaks(source: Source, tmp_path: Path) -> None:
    """What nearly repeats a leaking prompt, and does not leak itself, is kept."""
    red = "a red bus and a green van on a narrow bridge over a wide river at noon in may"
    source.files[0].write_text(f"{red}\n{red.replace('red bus', 'tan bus')}\n")
    source.files[1].write_text("")
    source.against[0].write_text(red[:-4] + " june\n")
    book = curate(source, replace(CFG, near=0.8, leak=0.88), tmp_path / "out").book
    assert [str(why).partition(":")[0] for why in book.why] == ["leaks", "None"]


def test_evaluation_prompts_that_cannot_be_read_are_no_guard(
    source: Source, tmp_path: Path
) -> None:
    source.against[0].write_bytes(b"a fox\n\xff\n")
    with pytest.raises(UserError, match=r"evaluation\.txt:2 is not UTF-8; repair or"):
        curate(source, CFG, tmp_path / "out")
    table = tmp_path / "parti.tsv"
    table.write_text("Prompt\tCategory\ntwo cups\tx\n")
    book = curate(replace(source, against=[table]), CFG, tmp_path / "out").book
    assert book.counts()["leaks"] == 1


def test_a_model_of_texts_finds_meanings_and_labels(source: Source, tmp_path: Path) -> None:
    """The tiny model knows few words: prompts of the same unknown ones mean the same to it."""
    bert(tmp_path / "bert")
    source = replace(source, files=[tmp_path / "c.txt"], against=(), embed=tmp_path / "bert")
    source.files[0].write_text("a red bus\na blue bus\nxx yy\nzz ww\na fox\n")
    book = curate(source, replace(CFG, meaning=0.99999), tmp_path / "out").book
    assert book.why == [None, None, None, "means the same", None]
    assert book.of[3] == "xx yy" and book.by["subject"] == [
        "rule", "rule", "prototype", None, "rule"
    ]  # fmt: skip
    assert (
        book.labels["subject"][2] in ("vehicles", "animals") and book.labels["style"][2] == "other"
    )
