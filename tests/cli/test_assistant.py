"""SDA beside an assistant from the command line: what is checked, exported and resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.games import assert_same
from tests.lora import CARD, in_blocks, lora_state
from tests.said import error
from torch import Tensor

from fewstep.cli import main
from fewstep.experiment.builder import Built, build
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import Experiment
from fewstep.families.adapter_files import write
from fewstep.families.adapter_state import by_layer, delta
from fewstep.families.zimage import ZImage
from fewstep.recipes.sda import sda_shapes
from fewstep.runs import Run
from fewstep.train.loop import train

SMALL = [
    "--engine", "plain", "--data.samples.prompts", "8", "--data.batch-size", "2",
    "--sampling.prompts", "2", "--loop.log-every", "1", "--loop.steps", "2", "--method.pool", "1",
    "--adapter.factor", "2", "--optim.student.lr", "0.05",
]  # fmt: skip


@pytest.fixture(scope="module")
def helper(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, path = ZImage.load(model), tmp_path_factory.mktemp("helper") / "helper.safetensors"
    write(path, lora_state(in_blocks(family, "to_q", "w1"), size=0.2), CARD)
    return path


@pytest.fixture
def words(model: Path, helper: Path) -> list[str]:
    return ["train", "sda_shapes", *SMALL, "--model", str(model), "--teacher", str(model),
            "--assistant", str(helper)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("share", ["asymmetric", "symmetric"])
def test_the_exported_model_is_the_base_and_the_adapter_of_the_file(
    words: list[str], model: Path, share: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = [*words, "--assistant-share", share, "--out", str(out)]
    assert main(words) == 0
    tensors = load_file(out / "adapter.safetensors")
    state = {name.removeprefix("diffusion_model."): value for name, value in tensors.items()}
    layers = {name: delta(factors) for name, factors in by_layer(state).items()}
    before = ZImage.load(model).pipeline.transformer.state_dict()
    after = ZImage.load(out / "model").pipeline.transformer.state_dict()
    assert before.keys() == after.keys() and len(layers) == 48
    for name, value in after.items():
        change = value - before[name]
        meant = layers.get(name.removesuffix(".weight"), torch.zeros(()))
        # the file is rounded to bfloat16, the model is not
        assert (change - meant).abs().max() <= 0.01 * meant.abs().max()
    assert max(dw.abs().max() for dw in layers.values()) > 1e-3
    capsys.readouterr()
    assert main(words) == 0
    assert "resumed at step 2" in capsys.readouterr().out


def small(words: list[str], tmp_path: Path, share: str) -> Experiment:
    """What the words ask for, for four steps."""
    model, helper = words[words.index("--model") + 1], words[words.index("--assistant") + 1]
    recipe = sda_shapes()
    return replace(
        recipe, model=model, teacher=model, assistant=helper, assistant_share=share,  # pyright: ignore
        method=replace(recipe.method, pool=1),  # pyright: ignore
        data=replace(
            recipe.data, samples=replace(recipe.data.samples, prompts=8), batch_size=2,
            cache=str(tmp_path / "cache"),
        ),
        loop=replace(recipe.loop, steps=4, checkpoint_every=2), engine="plain",
        sampling=replace(recipe.sampling, prompts=2),
    )  # fmt: skip


def went(experiment: Experiment, run: Run, steps: int) -> dict[str, Tensor]:
    """Everything that training has moved after so many steps of a new process."""
    built: Built = build(experiment, run.directory)
    loop = replace(experiment.loop, steps=steps)
    train(built.method, built.batches, loop, run, built.optims, seed=0)
    found: dict[str, Tensor] = {}
    for name, module in built.method.modules.items():
        found |= {f"{name}.{key}": value.clone() for key, value in module.state_dict().items()}
    for name, optim in built.optims.items():
        found |= {f"{name}:{key}": value.clone() for key, value in optim.state()[0].items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("share", ["asymmetric", "symmetric"])
def test_a_stopped_run_ends_where_one_that_was_not_does(
    words: list[str], share: str, tmp_path: Path
) -> None:
    experiment = small(words, tmp_path, share)
    with Run.create(tmp_path / "a", to_yaml(experiment)) as run:
        straight = went(experiment, run, 4)
    with Run.create(tmp_path / "b", to_yaml(experiment)) as run:
        half = went(experiment, run, 2)
    with Run.open(tmp_path / "b") as run:
        resumed = went(experiment, run, 4)
    assert_same(straight, resumed)
    assert any(not torch.equal(half[name], straight[name]) for name in half)


def test_a_dry_run_checks_the_file(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--dry-run", "--out", str(tmp_path / "run")]
    assert main([*words, *out]) == 0
    capsys.readouterr()
    assert main([*words, *out, "--assistant", "absent.safetensors"]) == 2
    assert "assistant 'absent.safetensors' must be a .safetensors file that" in error(capsys)
    other = tmp_path / "other.safetensors"
    write(other, lora_state({"layers.0.attention.to_q": (8, 8)}), CARD)
    for hub in ([], ["--model", "nobody/nothing"]):
        assert main([*words, *out, "--assistant", str(other), *hub]) == (0 if hub else 2)
    assert "layers.0.attention.to_q is (8, 8) in it and" in error(capsys)
    other.write_bytes(b"no tensors")
    assert main([*words, *out, "--assistant", str(other), "--model", "nobody/nothing"]) == 2
    assert "other.safetensors cannot be read as .safetensors" in error(capsys)
    assert main(["train", "dmd2_shapes", *out, "--assistant", str(other)]) == 2
    assert "method dmd2 takes none; leave assistant at none" in error(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_another_file_under_the_name_of_the_assistant_is_refused(
    words: list[str], helper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(helper.read_bytes())
    words = [*words, "--assistant", str(mine), "--loop.steps", "1", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    state = {k: 2 * v for k, v in load_file(mine).items()}
    write(mine, {k.removeprefix("diffusion_model.").removesuffix(".weight"): v
                 for k, v in state.items()}, CARD)  # fmt: skip
    capsys.readouterr()
    assert main(words) == 2
    assert "was started with another file as assistant than" in error(capsys)


@pytest.mark.slow
def test_another_model_behind_the_same_path_is_refused(
    words: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints of an adapter hold nothing of what it is on."""
    mine = tmp_path / "mine"
    shutil.copytree(model, mine)
    words = [*words, "--model", str(mine), "--loop.steps", "1", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    [file] = (mine / "transformer").glob("*.safetensors")
    save_file({k: 1.01 * v for k, v in load_file(file).items()}, file, {"format": "pt"})
    capsys.readouterr()
    assert main(words) == 2
    assert "was started on another model than" in error(capsys)
