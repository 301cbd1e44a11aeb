"""`fewstep eval MODEL... --suite NAME` on the packaged model: rows, resume, curves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.lora import write_lora
from tests.said import error

from fewstep.cli import main
from fewstep.cli import suite as suite_command
from fewstep.experiment.models import load_family
from fewstep.runs import Run

SMALL = ["--prompts", "8", "--seeds", "2", "--engine", "fused", "--threads", "1"]

pytestmark = pytest.mark.usefixtures("own_cache")


def evaluation(out: Path) -> dict:
    return json.loads((out / "evaluation.json").read_text())


@pytest.mark.slow
def test_models_are_drawn_once_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    models = ["shapes@1", "shapes@2", "shapes@4,w=2"]
    gap = ["--gap", "shapes@1", "shapes@4,w=2"]
    words = ["eval", *models, "--suite", "quick", *SMALL, "--out", str(out), *gap]
    assert main(words) == 0
    found = evaluation(out)
    printed = capsys.readouterr().out.splitlines()
    kid = found["rows"][1]["metrics"]["kid"]
    [line, *_] = [line.split() for line in printed if line.startswith("shapes, 1 step")]
    numbers = [float(word.strip("()")) for word in line[3:7] if word != "to"]
    assert numbers == pytest.approx([kid["value"], kid["low"], kid["high"]], abs=0.06)
    assert any(line.startswith("note: FD of shapes features") for line in printed)
    assert printed[-3:] == [
        f"wrote {out / 'likeness.png'}", "the page of it is made by", f"  fewstep report {out}",
    ]  # fmt: skip
    assert max(map(len, printed[:-5])) <= 80
    assert [(row["name"], row["role"]) for row in found["rows"]] == [
        ("true pictures", "truth"), ("shapes, 1 step", "teacher_few"),
        ("shapes, 2 steps", "student"), ("shapes, 4 steps, w = 2", "teacher_full"),
    ]  # fmt: skip
    assert [row["cost"] and row["cost"]["model_calls"] for row in found["rows"]] == [
        None, 16, 32, 128,
    ]  # fmt: skip
    assert found["commands"][0].startswith("fewstep eval shapes@1 shapes@2")
    assert found["comparisons"][0]["metric"] == "kid_gap_closed"
    assert found["comparisons"][0]["name"].endswith("shapes, 2 steps")
    assert found["comparisons"][0]["rows"] == [
        "shapes, 2 steps", "shapes, 1 step", "shapes, 4 steps, w = 2",
    ]  # fmt: skip
    vendi = found["rows"][0]["metrics"]["vendi"]["value"]
    assert found["metrics"]["vendi"]["target"] == vendi > 1
    # this level of the world never relates its objects, and not every prompt names a size
    parts = {key: n["n_prompts"] for key, n in found["rows"][1]["metrics"].items()
             if key.startswith("adherence")}  # fmt: skip
    assert parts["adherence"] == parts["adherence_shape"] == 8 > parts["adherence_size"] > 0
    assert "adherence_relation" not in parts
    few, student, full = (row["metrics"]["kid"]["value"] for row in found["rows"][1:])
    closed = found["comparisons"][0]["estimate"]["value"]
    assert closed == pytest.approx((few - student) / (few - full))
    said = {"kid", "adherence", "layout_diversity", "distance", "cross_prompt", "saturation"}
    assert said <= found["rows"][1]["metrics"].keys() <= found["metrics"].keys()
    assert "distance_recovered" in found["metrics"]
    assert any("FD of shapes features" in note for note in found["notes"])
    assert (out / "evaluation.png").is_file()

    # again: nothing is drawn, and the numbers are the same
    assert main(words) == 0
    again = evaluation(out)
    assert [row["cost"] and row["cost"]["images"] for row in again["rows"]] == [None, 0, 0, 0]
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in found["rows"]]

    # not while another works there
    with Run(out):
        capsys.readouterr()
        assert main(words) == 2
        assert f"the run {out} is in use by process {os.getpid()}; wait for it" in error(capsys)
    assert evaluation(out) == again

    # a picture that is gone or damaged is made again, or named
    folder = next((out / "pictures").glob("shapes_2_steps-*"))
    picture = folder / "0003_seed1.png"
    before = picture.read_bytes()
    picture.unlink()
    assert main(words) == 0
    assert picture.read_bytes() == before
    picture.write_bytes(before[:50])
    capsys.readouterr()
    assert main(words) == 2
    assert "0003_seed1.png is not a whole picture" in error(capsys)


@pytest.mark.slow
def test_retention_is_a_curve_over_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    short = replace(suite_command.SUITES["retention"], steps=(1, 2))
    monkeypatch.setattr(suite_command, "SUITES", {"retention": short})
    out = tmp_path / "out"
    models = ["shapes", "shapes@4,w=2"]
    assert main(["eval", *models, "--suite", "retention", *SMALL, "--out", str(out)]) == 0
    found = evaluation(out)
    curves = {curve["y"]: curve["lines"] for curve in found["curves"]}
    assert {"KID", "Adherence"} <= curves.keys()
    line, guided = curves["KID"]
    assert (line["name"], guided["name"]) == ("shapes", "shapes, w = 2")
    assert [p["label"] for p in line["points"]] == ["1", "2"]
    by_name = {row["name"]: row["metrics"]["kid"] for row in found["rows"]}
    assert [p["y"] for p in line["points"]] == [
        by_name["shapes, 1 step"], by_name["shapes, 2 steps"],
    ]  # fmt: skip
    assert [c["name"] for c in found["comparisons"] if c["metric"] == "kid"] == [
        "kid, shapes, 1 step, w = 2 minus shapes, 1 step",
        "kid, shapes, 2 steps, w = 2 minus shapes, 2 steps",
    ]


@pytest.mark.slow
def test_diversity_shows_a_sheet_for_each_model_and_says_what_it_went_without(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert main(["eval", "shapes@1", "--suite", "diversity", *SMALL, "--out", str(out)]) == 0
    found = evaluation(out)
    assert len(found["sheets"]) == 2 * 4
    with Image.open(out / found["sheets"][-1]["file"]) as sheet:
        assert sheet.size == (2 * 64 + 2, 64)
    assert any(note.startswith("lpips-alex was left out: no weights") for note in found["notes"])


@pytest.mark.slow
def test_an_adapter_is_a_curve_of_diversity_against_quality(tmp_path: Path) -> None:
    adapter = write_lora(load_family("shapes", torch.device("cpu")), tmp_path)
    out = tmp_path / "out"
    words = ["eval", "shapes@1", "--suite", "quick", "--prompts", "8", "--seeds", "2"]
    assert main([*words, "--threads", "1", "--out", str(tmp_path / "plain")]) == 0
    more = ["--adapter", str(adapter), "--strengths", "0", "1", "--out", str(out)]
    assert main([*words, "--threads", "1", *more]) == 0
    _, without, with_it = evaluation(out)["rows"]
    assert with_it["name"] == "shapes, 1 step, strength 1"
    assert without["metrics"] == evaluation(tmp_path / "plain")["rows"][1]["metrics"]
    assert with_it["metrics"]["sharpness"] != without["metrics"]["sharpness"]
    curve = evaluation(out)["curves"][0]
    assert (curve["x"], curve["y"]) == ("Layout diversity", "KID")
    [line] = curve["lines"]
    assert line["name"] == "shapes, 1 step"
    assert [point["label"] for point in line["points"]] == ["0", "1"]
    [compared] = [c["name"] for c in evaluation(out)["comparisons"] if c["metric"] == "kid"]
    assert compared == "kid, shapes, 1 step, strength 1 minus shapes, 1 step, strength 0"


@pytest.mark.slow
def test_a_gate_is_a_row_beside_the_curve(tmp_path: Path) -> None:
    adapter = write_lora(load_family("shapes", torch.device("cpu")), tmp_path)
    out = tmp_path / "out"
    words = ["eval", "shapes@2", "--suite", "quick", "--prompts", "8", "--seeds", "2"]
    words += ["--threads", "1", "--adapter", str(adapter), "--out", str(out)]
    words += ["--strengths", "0", "1", "1,0", "1,1"]
    assert main(words) == 0
    found = evaluation(out)
    _, off, on, early, always = rows = found["rows"]
    assert [row["name"] for row in rows[1:]] == [
        f"shapes, 2 steps, strength {s}" for s in ("0", "1", "1,0", "1,1")
    ]
    assert always["metrics"] == on["metrics"]
    assert early["metrics"]["sharpness"] not in [row["metrics"]["sharpness"] for row in (on, off)]
    [line] = found["curves"][0]["lines"]
    assert [point["label"] for point in line["points"]] == ["0", "1"]
    compared = [c["name"] for c in found["comparisons"] if c["metric"] == "kid"]
    assert len(compared) == 3
    assert compared[1] == "kid, shapes, 2 steps, strength 1,0 minus shapes, 2 steps, strength 0"
    folders = sorted(path.name.rpartition("-")[0] for path in (out / "pictures").iterdir())
    assert folders == [f"shapes_2_steps_strength_{s}" for s in ("0", "1", "1_0", "1_1")]
    assert main(words) == 0  # nothing is drawn again
    assert [row["cost"]["images"] for row in evaluation(out)["rows"][1:]] == [0] * 4


@pytest.mark.slow
def test_pictures_from_elsewhere_are_judged_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "mine"
    prompts = [
        f"a {c} {s}" for c in ("red", "blue", "green") for s in ("circle", "square", "cross")
    ]
    sample = ["sample", "--model", "shapes", "--steps", "1", "--prompts", *prompts]
    assert main([*sample, "--seeds", "0", "1", "--out", str(pictures)]) == 0
    out = tmp_path / "out"
    words = ["eval", str(pictures), "shapes@1", "--suite", "quick", "--out", str(out)]
    assert main(words) == 0
    rows = evaluation(out)["rows"]
    assert [row["name"] for row in rows] == ["true pictures", "mine", "shapes, 1 step"]
    # the same model on the same prompts and noise
    assert rows[1]["metrics"] == rows[2]["metrics"]

    # held against another model's pictures instead of a world's truth
    plain = ["--world", "none", "--reference", str(pictures), "--extractors", "pixels"]
    assert main(["eval", str(pictures), "--suite", "quick", *plain, "--out", str(out)]) == 0
    [row] = evaluation(out)["rows"]
    assert row["metrics"]["coverage_pixels"]["value"] == 1 and "adherence" not in row["metrics"]

    # pictures as the reference say what is asked, and nothing of another size is held against them
    plain += ["--height", "32", "--out", str(tmp_path / "small")]
    capsys.readouterr()
    assert main(["eval", "shapes@1", "--suite", "quick", *plain]) == 2
    assert "pictures of shapes, 1 step are 32 x 64 pixels, they are held against 64 x 64" in error(
        capsys
    )

    other = tmp_path / "other"
    assert main([*sample[:-1], "--seeds", "0", "1", "--out", str(other)]) == 0
    capsys.readouterr()
    assert main(["eval", str(pictures), str(other), "--suite", "quick", "--out", str(out)]) == 2
    assert "have 8 prompts, the reference has 9" in error(capsys)
