"""The SDA studies end to end on a tiny model: student, adapters, interruption, tables, records."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from benchmarks import sda
from tests.tiny import tiny_zimage

from fewstep import claims
from fewstep.runs import read_metrics

TINY = ["data.samples.prompts=4", "data.samples.steps=2", "data.batch_size=2", "sampling.every=9",
        "sampling.prompts=1", "loop.checkpoint_every=1"]  # fmt: skip
WORDS = ["--engine", "plain", "--prompts", "8", "--seeds", "2", "--steps", "2",
         "--training-seeds", "2", "--set", *TINY, "eval.full_steps=2"]  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of every study, with a teacher that is there."""
    base = tmp_path_factory.mktemp("sda")
    family = tiny_zimage(wide=True)  # whose pictures differ enough to be measured
    family.save(base / "model", family.backbone)
    places = [f"--{name}={base / name}" for name in ("model", "results", "docs", "work")]
    return [*WORDS, f"data.cache={base / 'cache'}", *places, "--student-set", *TINY,
            "loop.steps=2", f"data.cache={base / 'cache'}"]  # fmt: skip


def place(words: list[str], name: str) -> Path:
    [found] = [word for word in words if word.startswith(f"--{name}=")]
    return Path(found.partition("=")[2])


@pytest.mark.slow
def test_from_the_student_to_the_records(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    work, results, docs = (place(words, name) for name in ("work", "results", "docs"))
    assert sda.main(["run", "yardsticks", *words, "--on", "4", "--part", "14/16"]) == 2
    assert (work / "sda" / "student4_0" / "model").is_dir()
    assert "training seed 0 is not there yet" in capsys.readouterr().err

    # Two parts train one run each, and the first leaves the second's alone.
    assert sda.main(["run", "seeds", *words, "--part", "0/2"]) == 0
    [first] = work.glob("sda/*/2_steps/default_*/result-*.json")
    assert first.parent.name == "default_0"
    assert sda.main(["table", "seeds", *words]) == 0
    assert "1 of 2 jobs" in capsys.readouterr().out
    assert not (results / "sda.json").exists()

    # A run that was stopped after its first step goes on from there.
    assert sda.main(["run", "seeds", *words, "--part", "1/2"]) == 0
    second = first.parent.with_name("default_1")
    for path in (*second.glob("result-*.json"), second / "adapter.safetensors"):
        path.unlink()
    shutil.rmtree(second / "model")
    shutil.rmtree(max((second / "checkpoints").glob("step_*2")))
    capsys.readouterr()
    assert sda.main(["run", "seeds", *words]) == 0
    said = capsys.readouterr().out
    assert "resumed at step 1" in said and "drawing" not in said  # the same weights as before
    assert "default, training seed 1" in said and "default, training seed 0" not in said
    assert {row["step"] for row in read_metrics(second)} == {1, 2}
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*.json")}
    assert sda.main(["run", "seeds", *words]) == 0
    assert "training seed" not in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in work.rglob("*.json")}

    assert sda.main(["table", "seeds", *words]) == 0
    table = json.loads((results / "tables" / "sda_seeds.json").read_text())
    check_shares(table)
    [one] = claims.read(results / "sda.json")
    share = table["students"][0]["rows"][0]["shares"]["layout_diversity"]["value"]
    assert one.id == "sda.gap_recovered_4step" and one.value == pytest.approx(share)
    for name in ("sda_seeds.png", "sda_seeds_pictures4.png"):
        assert (docs / "figures" / name).read_bytes().startswith(b"\x89PNG")
        assert f"figures/{name}" in (docs / "sda_seeds.md").read_text()
    # Another configuration of a run that is there is named, not mixed in.
    start, end = words.index("--set"), words.index("--student-set")
    given = [word for word in words[start:end] if not word.startswith("--") or word == "--set"]
    assert sda.main(["run", "seeds", *words, *given, "method.pool=4"]) == 2
    assert "method.pool: 2 there, 4 here" in capsys.readouterr().err


def check_shares(table: dict) -> None:
    """A share is what the metrics beside it say, for each training seed."""
    [student] = table["students"]
    full, bare = (list(student["known"].values())[i] for i in (1, 3))
    row = student["rows"][0]
    checked = 0
    for key, e in row["shares"].items():
        gap = full[key]["value"] - bare[key]["value"]
        if gap > 0:
            mean = row["metrics"][key]["value"]
            assert e["value"] == pytest.approx((mean - bare[key]["value"]) / gap)
            assert e["n_runs"] == row["runs"] == 2
            checked += 1
        else:
            assert e["value"] is None or math.isnan(e["value"])
    assert checked
    assert set(row["shares_by_seed"]["vendi"]) <= {"0", "1"}


@pytest.mark.slow
def test_drawings_need_no_training(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    work, results, docs = (place(words, name) for name in ("work", "results", "docs"))
    for study in ("yardsticks", "strengths"):
        command = [study, *words, "--on", "4", "--training-seeds", "1"]
        assert sda.main(["run", "seeds", *words]) == 0
        capsys.readouterr()
        for part in ("0/2", "1/2"):
            assert sda.main(["run", *command, "--part", part]) == 0
        drawn = capsys.readouterr().out
        # strengths 0 and 1 are the student and the adapter, whose pictures are there
        assert ("at 4 steps: strength0," in drawn) == (study == "strengths")
        assert drawn.count("drawing") == (5 + 3 if study == "strengths" else 12)
        assert sda.main(["run", *command]) == 0
        assert "drawing" not in capsys.readouterr().out
        assert sda.main(["table", *command]) == 0
        assert (docs / "figures" / f"sda_{study}.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((results / "tables" / "sda_strengths.json").read_text())["students"][0]
    by_name = {row["name"]: row for row in rows["rows"]}
    bare = rows["known"]["student, 4 steps"]["vendi"]["value"]
    assert by_name["strength0"]["metrics"]["vendi"]["value"] == pytest.approx(bare)
    seeds = json.loads((results / "tables" / "sda_seeds.json").read_text())["students"][0]
    assert by_name["strength0"]["changes"]["vendi"]["value"] == 0
    own = seeds["rows"][0]["shares_by_seed"]["vendi"].get("0")
    if own is not None:
        assert by_name["strength1"]["shares"]["vendi"] == own
    assert len(list(work.glob("sda/*/student/*.json"))) == 14
    yardsticks = json.loads((results / "tables" / "sda_yardsticks.json").read_text())
    calls = {row["name"]: row["calls"] for row in yardsticks["students"][0]["rows"]}
    assert calls["first_w1"] == calls["adapter"] == 4 and calls["first_w2"] == 5
