"""`fewstep prompts` by the real command: files, page, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.cli.app import main


def test_from_files_to_lists_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_bytes(
        b"a photo of a <b>fox</b>\na photo of a <b>FOX</b>\ntwo cups\n\xff"
    )
    words = ["prompts", "mine.txt", "--split.val", "0", "--split.test", "0"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "4 rows were read" in said and "2 kept" in said and "1 repeats" in said
    out = Path("prompts/mine")
    lines = (out / "train.txt").read_text().splitlines()
    assert sorted(lines) == ["a photo of a <b>fox</b>", "two cups"]
    assert (out / "val.txt").read_text() == ""
    page = (out / "report.html").read_text()
    assert "2 prompts from 4 rows" in page and "&lt;b&gt;FOX" in page and "<script" not in page
    assert page.count("<section") == page.count("</section>") == 4
    assert main(words) == 0  # again, from what is there
    assert main([*words, "--quota.total", "1"]) == 0
    assert len((out / "train.txt").read_text().splitlines()) == 1
    # a mistake in a first command does not stand in the way of the second
    assert main(["prompts", "mine.txt", "--out", "new", "--against", "missing.txt"]) == 2
    assert main(["prompts", "mine.txt", "--out", "new"]) == 0
    # lists of other files, and what is read, are not overwritten
    Path("other").mkdir()
    Path("other/mine.txt").write_text("a bus\n")
    for words, said in (
        (["other/mine.txt"], "prompts/mine was made from other files"),
        (["prompts/mine/train.txt", "--out", "prompts/mine"], "train.txt lies in prompts/mine"),
    ):
        capsys.readouterr()
        assert main(["prompts", *words]) == 2
        assert said in capsys.readouterr().err
    assert len((out / "train.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize(("words", "said"), [
    ([], "prompts takes at least one file"),
    (["none.txt"], "none.txt cannot be read: No such file"),
    (["a.txt", "--near", "2"], "--near must be above 0"),
    (["a.txt", "--nearr", "0.5"], "unknown option '--nearr'"),
    (["a.txt", "--out", "mine"], "mine holds files that `fewstep prompts` has not made"),
    (["a.txt", "--embed", "mine"], "holds no model of texts"),
    (["a.txt", "--against", "empty.txt"], "there is no evaluation prompt in them"),
    (["empty.txt"], "there is no prompt in empty.txt"),
    (["a.txt", "--rules.least-words", "9"], "the first, a.txt:1, has fewer than 9"),
    (["a.txt", "--rules.scripts", "Latin"], "there is no script 'Latin'"),
    (["a.txt", "--rules.languages", "en"], "pip install 'fewstep"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("a red bus\n")
    Path("empty.txt").write_text("\n")
    Path("mine").mkdir()
    Path("mine/train.txt").write_text("mine")
    assert main(["prompts", *words]) == 2
    found = capsys.readouterr().err
    assert said in found and found.startswith("error: ") and found.count("\n") == 1
    assert Path("mine/train.txt").read_text() == "mine"
