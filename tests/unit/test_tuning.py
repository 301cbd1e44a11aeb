"""The methods that tune, from their configs: what is refused, and their trees on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapted import cond, noise, relative, run
from tests.lora import CARD, in_blocks, lora_state, merged
from tests.tiny import tiny_zimage

from fewstep.data.batches import Batch
from fewstep.data.folder import FolderConfig
from fewstep.evaluate.in_context import TeacherCheckConfig
from fewstep.experiment.config import DataConfig, Experiment, MethodConfig
from fewstep.experiment.trees import Bare
from fewstep.experiment.tuning import Tuning, make_tuning
from fewstep.families.adapter_files import write
from fewstep.families.zimage import ZImage
from fewstep.methods.base import AnyPhase
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.methods.dreambooth import DreamBoothConfig
from fewstep.methods.losses import flow_matching
from fewstep.methods.offpolicy import OffPolicyConfig
from fewstep.methods.pso import PSOConfig
from fewstep.methods.sft import SFTConfig
from fewstep.nets.adapters import AdapterConfig, adapter_state
from fewstep.recipes import RECIPES
from fewstep.rng import Rng
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import run_step

FOLDER = DataConfig(source="folder", folder=FolderConfig(path="pictures", context="picture"))
PICTURES = DataConfig(source="folder", folder=FolderConfig(path="pictures"))
FURTHER = replace(FOLDER, folder=replace(FOLDER.folder, prompts="wanted.txt"))
ADAPTERS = (AdapterConfig(factor=4), AdapterConfig(kind="lora", rank=3), None)


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def experiment(method: MethodConfig, **changes: Any) -> Experiment:
    return Experiment(**{"method": method, "data": FOLDER, "adapter": ADAPTERS[0], **changes})


def batch(family: ZImage) -> Batch:
    text = cond(family.backbone)  # pyright: ignore[reportArgumentType]
    told = family.encode_text(["a red circle", "two blue squares"])
    prior = Batch(ids=("p", "q"), x0=noise(7), cond=told)
    return Batch(ids=("a", "b"), x0=noise(5), cond=text, context=told, prior=prior)


@pytest.mark.parametrize(
    ("method", "data", "said"),
    [
        (DOPSDConfig(), DataConfig(), "method dopsd needs what its teacher sees of each picture"),
        (
            OffPolicyConfig(), replace(FOLDER, folder=FolderConfig(path="x")),
            "method offpolicy needs what its teacher sees of each picture",
        ),
        (DOPSDConfig(tether_weight=0.5), FOLDER, "tether_weight = 0.5 needs samples of other"),
        (
            DreamBoothConfig(), replace(FOLDER, prior="prompts"),
            "set data.prior to samples or folder, got prompts, or the weight to 0",
        ),
        (PSOConfig(), DataConfig(source="prompts"), "method pso learns from pictures"),
        (OffPolicyConfig(), replace(FOLDER, prior="prompts"), "is prompts, but method offpolicy"),
        (
            DOPSDConfig(), replace(FOLDER, prior="samples"),
            "data.prior is samples, but method.tether_weight = 0 asks for no samples of other "
            "prompts: set data.prior to none, or the weight above 0",
        ),
        (
            DreamBoothConfig(prior_weight=0.0), replace(PICTURES, prior="samples"),
            "but method.prior_weight = 0 asks for no samples of other",
        ),
        (SFTConfig(), FOLDER, "but method sft has no teacher that sees it: set data.f"),
        (PSOConfig(), FOLDER, "folder.context is picture, but method pso has no"),
        (DreamBoothConfig(prior_weight=0.0), FOLDER, "but method dreambooth has no teacher that"),
        (
            SFTConfig(), replace(PICTURES, folder=replace(PICTURES.folder, prompts="wanted.txt")),
            "data.folder.prompts is 'wanted.txt', but method sft learns from the pictures, which "
            "show none of these prompts: set it to none, or take method dopsd, or offpolicy with "
            "method.states teacher",
        ),
        (OffPolicyConfig(), FURTHER, "is 'wanted.txt', but method offpolicy learns from the pic"),
        (
            DOPSDConfig(), replace(FURTHER, folder=replace(FURTHER.folder, context="prompt")),
            "data.folder.prompts is 'wanted.txt', whose prompts are read beside a picture, and "
            "data.folder.context is prompt: set that to picture, or data.folder.prompts to none",
        ),
        (
            SFTConfig(), DataConfig(folder=FolderConfig(prompts="wanted.txt")),
            "data.folder.prompts is 'wanted.txt', which is read where data.source is folder",
        ),
        (
            SFTConfig(), DataConfig(folder=FolderConfig(path="x")),
            "data.folder.path is 'x', which is read where data.source is folder: set that, got "
            "samples, or data.folder.path to none",
        ),
        (
            SFTConfig(), DataConfig(folder=FolderConfig(trigger="sks")),
            "data.folder.trigger is 'sks', which is read where",
        ),
        (
            DreamBoothConfig(),
            DataConfig(prior="folder", folder=FolderConfig(regularisation="r", repeats=3)),
            "data.folder.repeats is 3, which is read where .* or data.folder.repeats to 1",
        ),
        (
            SFTConfig(), replace(PICTURES, directory="d"),
            "data.directory is 'd', but no teacher samples are read where data.source is folder "
            "and data.prior is none: set it to none",
        ),
    ],
)  # fmt: skip
def test_data_that_do_not_fit_are_refused(
    method: MethodConfig, data: DataConfig, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        experiment(method, data=data)


@pytest.mark.parametrize("name", ["ladd", "dmd2", "sda"])
def test_methods_that_do_not_tune_refuse_what_those_read(name: str) -> None:
    other = RECIPES[f"{name}_shapes"]()
    for data, said in (
        ({"prior": "prompts"}, f"data.prior is prompts, but method {name} asks for no samples"),
        ({"folder": FolderConfig(context="prompt")}, "data.folder.context is 'prompt', which is"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(other, data=replace(other.data, **data))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=f"has 1 prompts, but method {name} has no teacher in"):
        replace(other, check=TeacherCheckConfig(prompts=("a dog",)))


def test_data_that_fit() -> None:
    experiment(DreamBoothConfig(prior_weight=0.0), data=PICTURES)
    experiment(DreamBoothConfig(), data=replace(PICTURES, prior="samples", directory="d"))
    second = FolderConfig(regularisation="r", size=64, background="black")
    experiment(DreamBoothConfig(), data=DataConfig(prior="folder", folder=second))
    experiment(DOPSDConfig(tether_weight=0.5), data=replace(FOLDER, prior="prompts"))
    experiment(SFTConfig(), data=DataConfig(), teacher="shapes")
    experiment(DOPSDConfig(), data=FURTHER)
    experiment(OffPolicyConfig(states="teacher"), data=FURTHER)
    with pytest.raises(
        ValueError, match=r"reads only its samples and data.source is folder: set teacher"
    ):
        experiment(PSOConfig(), data=PICTURES, teacher="shapes")
    with pytest.raises(ValueError, match=r"check.pictures = 0 draws nothing: leave check.prompts"):
        experiment(DOPSDConfig(), check=TeacherCheckConfig(pictures=0, prompts=("a dog",)))
    with pytest.raises(ValueError, match="but method dopsd has no other than model"):
        experiment(DOPSDConfig(), teacher="shapes")
    with pytest.raises(ValueError, match="method dopsd takes none; leave assistant at none"):
        experiment(DOPSDConfig(), assistant="a.safetensors")
    with pytest.raises(ValueError, match="set assistant_share to symmetric, got asymmetric"):
        experiment(SFTConfig(), data=PICTURES, assistant="a.safetensors")


@pytest.mark.parametrize("adapter", ADAPTERS, ids=["lokr", "lora", "whole"])
@pytest.mark.parametrize(
    "cfg", [DOPSDConfig(visits=2, tether_weight=0.5), PSOConfig(), OffPolicyConfig(visits=1)],
    ids=["dopsd", "pso", "offpolicy"],
)  # fmt: skip
def test_a_step_moves_what_trains_and_leaves_the_model_before_it(
    family: ZImage, cfg: Tuning, adapter: AdapterConfig | None
) -> None:
    tied = isinstance(cfg, DOPSDConfig)
    data = replace(FOLDER, prior="prompts") if tied else FOLDER
    data = PICTURES if isinstance(cfg, PSOConfig) else data
    given = experiment(cfg, adapter=adapter, data=data)
    uncond = family.encode_text([""])
    method = make_tuning(given, cfg, family, uncond)
    before = run(family.backbone)  # pyright: ignore[reportArgumentType]
    optim = Optim(OptimConfig(lr=1e-2), method.modules["student"], total=1)
    assert torch.equal(run(method.modules["student"]), before) or adapter is None  # pyright: ignore
    seen: list[AnyPhase] = list(method.phases(0))
    assert [phase.name for phase in seen] == ["student"]
    optims = {"student": optim}
    assert run_step(method, [batch(family)], optims, {}, seed=0, step=0) is None
    with torch.no_grad():
        assert relative(run(method.modules["student"]), before) > 1e-3  # pyright: ignore
        assert torch.equal(run(family.backbone), before)  # pyright: ignore[reportArgumentType]
    assert not any(p.requires_grad or p.grad is not None for p in family.backbone.parameters())


def test_the_teacher_of_an_adapter_is_over_the_same_weights(family: ZImage) -> None:
    method = make_tuning(experiment(DOPSDConfig()), DOPSDConfig(), family, family.encode_text([""]))
    assert isinstance(method, DOPSD)
    own = {id(p) for p in family.backbone.parameters()}
    extra = [p for p in method.teacher.module.parameters() if id(p) not in own]
    state = adapter_state(method.student)
    assert sum(p.numel() for p in extra) == sum(v.numel() for v in state.values())
    assert not any(p.requires_grad for p in extra)


def test_sft_beside_an_assistant_trains_on_it_and_exports_without(
    family: ZImage, tmp_path: Path
) -> None:
    helper = lora_state(in_blocks(family, "to_q", "w2"), size=0.2)
    write(tmp_path / "a.safetensors", helper, CARD)
    cfg = SFTConfig(ema_decay=0.0)
    given = experiment(
        cfg, data=PICTURES, assistant=str(tmp_path / "a.safetensors"),
        assistant_share="symmetric",
    )  # fmt: skip
    method = make_tuning(given, cfg, family, family.encode_text([""]))
    assert isinstance(method, Bare)
    student = method.modules["student"]
    with torch.no_grad():
        assisted = run(merged(family, helper))
        assert relative(run(student), assisted) < 1e-5  # pyright: ignore
        assert torch.equal(run(method.exported()), run(family.backbone))  # pyright: ignore
    text = batch(family)
    [phase] = method.phases(0)
    [(loss, _)] = phase.parts(text, Rng(0, 0, "student", text.ids))
    draws = Rng(0, 0, "student", text.ids)
    with torch.no_grad():
        expected = flow_matching(
            merged(family, helper), text, draws, cfg.student_sigmas, cfg.student_probs
        )
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-6)
    optim = Optim(OptimConfig(lr=1e-2), student, total=1)
    run_step(method, [text], {"student": optim}, {}, seed=0, step=0)
    with torch.no_grad():
        state = {k: v.clone() for k, v in adapter_state(student).items()}
        assert relative(run(method.exported()), run(merged(family, state))) < 1e-5  # pyright: ignore
        assert relative(run(method.exported()), run(family.backbone)) > 1e-3  # pyright: ignore
