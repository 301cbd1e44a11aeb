"""An export counts only if its reader gets what was trained; and it says how to sample it."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tests.tiny import tiny_zimage
from torch import nn

from fewstep.experiment.builder import Built
from fewstep.experiment.card import card, public_name
from fewstep.experiment.export import export
from fewstep.families.base import Backbone
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import FusedZImage
from fewstep.flow.sample import SamplerName
from fewstep.recipes.ladd import ladd_shapes
from fewstep.recipes.sda import sda_shapes
from fewstep.runs import RunError


class Trained:
    """What is left of a method at the end."""

    def __init__(self, student: nn.Module) -> None:
        self.student = student

    def exported(self) -> nn.Module:
        return self.student


@pytest.fixture
def family() -> ZImage:
    return tiny_zimage()


def built(family: ZImage, student: Backbone | None = None) -> Built:
    nothing = cast(Any, None)
    if student is None:
        student = copy.deepcopy(family.backbone)
        with torch.no_grad():
            for p in student.parameters():
                p.mul_(1.01)
    return Built(
        family=family, teacher=family, world=None, method=cast(Any, Trained(student)),
        batches=nothing, samples_key={}, optims={}, hooks=[], device=torch.device("cpu"),
    )  # fmt: skip


def test_the_student_is_what_is_read(family: ZImage, tmp_path: Path) -> None:
    run = built(family)
    student = cast(Backbone, run.method.exported())
    out = export(run, ladd_shapes(), tmp_path / "model")
    assert ZImage.load(out).fingerprint() == family.fingerprint(student) != family.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not any(p.stat().st_mode & 0o777 == 0o600 for p in out.rglob("*.safetensors"))


def test_a_fused_student_in_bfloat16_is_read_back_too(family: ZImage, tmp_path: Path) -> None:
    """What is compared is how a reader runs it, not the fast way that it was trained in."""
    family.save(tmp_path / "teacher", family.backbone)
    low = ZImage.load(tmp_path / "teacher", dtype=torch.bfloat16)
    trained = copy.deepcopy(family.pipeline.transformer)  # float32, as in training
    run = built(low, FusedZImage(trained, torch.bfloat16, compiled=False))
    out = export(run, replace(ladd_shapes(), dtype="bfloat16"), tmp_path / "model")
    weights = load_file(out / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert {p.dtype for p in trained.parameters()} == {torch.float32}


def edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def other_text(out: Path) -> None:
    file = out / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    weights["layers.0.mlp.up_proj.weight"][0, 0] += 1
    save_file(weights, file, metadata={"format": "pt"})


FAULTS: dict[str, Callable[[Path], object]] = {
    "another velocity": lambda out: edit(out / "transformer/config.json", rope_theta=9.0),
    "other noise levels": lambda out: edit(out / "scheduler/scheduler_config.json", shift=6.0),
    "another sampler": lambda out: edit(
        out / "scheduler/scheduler_config.json", stochastic_sampling=False
    ),
    "other weights": other_text,
    "has no vae/ folder": lambda out: (out / "vae").rename(out / "elsewhere"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_export_that_reads_back_otherwise_is_refused(
    fault: str, family: ZImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where every weight of the student is as it was trained."""
    save = family.save

    def unfaithful(directory: Path, backbone: Backbone, sampler: SamplerName) -> None:
        save(directory, backbone, sampler)
        FAULTS[fault](directory)

    monkeypatch.setattr(family, "save", unfaithful)
    with pytest.raises(RunError, match=r"does not read back as it was trained.*sound") as error:
        export(built(family), ladd_shapes(), tmp_path / "model")
    assert fault in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_card_is_true(family: ZImage, tmp_path: Path) -> None:
    """Its front matter is YAML, its code runs, and it names no path of this machine."""
    experiment = replace(ladd_shapes(), model=str(tmp_path / "teacher"))
    out = export(built(family), experiment, tmp_path / "model")
    text = (out / "README.md").read_text(encoding="utf-8")
    fields = yaml.safe_load(text.split("---\n")[1])
    assert fields == {
        "library_name": "diffusers", "pipeline_tag": "text-to-image", "tags": ["fewstep"],
    }  # fmt: skip
    assert str(tmp_path) not in text and "`teacher`" in text
    assert (
        "at noise levels 1, 0.9, 0.75, 0.5 (1 is noise), fresh noise" in text
        and f"LADD, {experiment.loop.steps} steps" in text
    )
    assert "towards pictures that `teacher` draws in 20 steps and w = 2." in text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    calls: list[dict[str, Any]] = []
    call = DiffusionPipeline.from_pretrained(out).__class__.__call__
    scope: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "diffusers.ZImagePipeline.__call__",
            lambda self, *a, **k: (calls.append(k), call(self, *a, **k))[1],
        )
        exec(code[1].replace("path/to/this/folder", str(out)), scope)
    assert scope["image"].size == (64, 64)
    assert calls[0]["guidance_scale"] == 0, "in diffusers, Z-Image is unguided at 0"
    assert calls[0]["num_inference_steps"] == experiment.sampling.steps


def test_the_card_of_a_student_that_saw_no_pictures_names_its_teacher(family: ZImage) -> None:
    experiment = replace(sda_shapes(), model="somewhere/deep/student", teacher="the/many/steps")
    text = card(experiment, family)
    assert "on prompts alone, with `steps` as teacher." in text and "many/steps" not in text
    assert "# student, in 4 steps" in text and "towards pictures" not in text


def test_a_model_of_a_hub_is_the_base_model(family: ZImage) -> None:
    text = card(replace(ladd_shapes(), model="Tongyi-MAI/Z-Image"), family)
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == "Tongyi-MAI/Z-Image"
    assert "# Tongyi-MAI/Z-Image, in 4 steps" in text


def test_a_model_of_a_run_has_the_runs_name(
    family: ZImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "# dmd2_shapes_narrow, in 4 steps" in card(sda_shapes(), family)
    (tmp_path / "turbo").mkdir()
    monkeypatch.chdir(tmp_path / "turbo")
    names = {"runs/x/model": "x", ".": "turbo", "deep/below/y": "y", "shapes": "shapes"}
    for model, name in (names | {"who/what": "who/what"}).items():
        assert public_name(model) == name


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("No space left")]
)
def test_a_full_disk_is_one_sentence(
    full: Exception, family: ZImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors has an error of its own, which is no OSError."""

    def fail(directory: Path, *_: object) -> None:
        directory.mkdir()
        raise full

    monkeypatch.setattr(family, "save", fail)
    with pytest.raises(RunError, match=r"could not write the model .*: No space left.* are sound"):
        export(built(family), ladd_shapes(), tmp_path / "model")
    assert not list(tmp_path.iterdir())
