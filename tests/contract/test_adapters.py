"""Adapter files on a real model: what peft attached is what diffusers saved, at every strength."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoKrConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tests.lora import write_lora

from fewstep.errors import UserError
from fewstep.experiment.models import load_family
from fewstep.families import adapters
from fewstep.families.zimage import ZImage
from fewstep.flow.sigmas import levels

CPU = torch.device("cpu")
PROMPT = "a red circle and a blue square"


def family() -> ZImage:
    return load_family("shapes", CPU)


@torch.no_grad()
def velocity(loaded: ZImage) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *loaded.latent_shape(64, 64), generator=generator)
    sigma = torch.tensor(levels(loaded.sigmas(4))[1:2])
    return loaded.backbone(x, sigma, loaded.encode_text([PROMPT]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A LoRA that changes something, as diffusers writes it, and what it gives."""
    loaded = family()
    path = write_lora(loaded, tmp_path_factory.mktemp("adapter"))
    return path, velocity(loaded)


def test_an_adapter_gives_what_it_was_trained_to_give(trained: tuple[Path, torch.Tensor]) -> None:
    path, wanted = trained
    loaded = family()
    plain = velocity(loaded)
    assert (plain - wanted).abs().max() > 0.01
    assert adapters.attach(loaded, path) >= 2 * loaded.backbone.depth
    assert torch.equal(velocity(loaded), wanted)
    adapters.scale(loaded, 0.0)
    assert torch.equal(velocity(loaded), plain)
    adapters.scale(loaded, 0.5)
    half = velocity(loaded)
    assert 0.2 < (half - plain).norm() / (wanted - plain).norm() < 0.8


def test_a_file_that_changes_nothing_is_refused(
    trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    foreign = {f"base_model.model.{k}": v for k, v in load_file(trained[0]).items()}
    path = tmp_path / "foreign.safetensors"
    save_file(foreign, path)
    with pytest.raises(UserError, match=r"changes nothing in this model|does not fit this model"):
        adapters.attach(family(), path)


def test_a_file_that_fits_in_part_is_refused(
    trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    """An adapter of a deeper model: diffusers would load the layers that are there."""
    deeper = {k.replace("layers.1.", "layers.99."): v for k, v in load_file(trained[0]).items()}
    save_file(deeper, tmp_path / "deeper.safetensors")
    with pytest.raises(UserError, match=r"no place for 4 of its 32 tensors, .* layers\.99\.att"):
        adapters.attach(family(), tmp_path / "deeper.safetensors")


@pytest.mark.parametrize("prefix", ["transformer", "diffusion_model"])
def test_lokr_is_read_under_both_names_of_the_transformer(prefix: str, tmp_path: Path) -> None:
    source = family()
    transformer = source.pipeline.transformer
    transformer.add_adapter(LoKrConfig(r=4, alpha=4, target_modules=["to_q", "to_v"]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if "lokr_" in name:
                weight.normal_(0, 0.3, generator=generator)
    state = get_peft_model_state_dict(transformer)
    path = tmp_path / "lokr.safetensors"
    save_file({f"{prefix}.{k}": v.contiguous() for k, v in state.items()}, path)
    loaded = family()
    plain = velocity(loaded)
    assert adapters.attach(loaded, path) == 16
    torch.testing.assert_close(velocity(loaded), velocity(source))
    assert (velocity(source) - plain).abs().max() > 0.01


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a \.safetensors file that exists"):
        adapters.attach(family(), tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not this")
    with pytest.raises(UserError, match=r"cannot be read as \.safetensors: .*header"):
        adapters.attach(family(), tmp_path / "broken.safetensors")
