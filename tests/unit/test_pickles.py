"""Nothing is loaded by pickle, whatever a file is called, and no list leads out of its folder."""

from __future__ import annotations

import io
import json
import pickletools
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.games import Game
from tests.unit.test_checkpoint import moved, save
from tests.unit.test_precompute import CFG, PROMPTS, ToyFamily, made

from fewstep.data.audit import verify
from fewstep.data.picture_cache import PictureCache
from fewstep.data.publish import sealed
from fewstep.data.shards import read_shard, shard_path, span
from fewstep.errors import UserError
from fewstep.families.adapter_files import open_file
from fewstep.families.zimage import ZImage
from fewstep.runs import RunError
from fewstep.train import checkpoint

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def plain(path: Path, marker: Path) -> None:
    """As torch wrote them once: one pickle after the other."""
    torch.save({"weight": Malicious(marker)}, path, _use_new_zipfile_serialization=False)


def zipped(path: Path, marker: Path) -> None:
    """As torch writes them now."""
    torch.save({"weight": Malicious(marker)}, path)


Writer = Callable[[Path, Path], None]
both = pytest.mark.parametrize("write", [plain, zipped])


@both
def test_they_would_do_harm(write: Writer, tmp_path: Path, marker: Path) -> None:
    """By what is written in them: whoever unpickles one calls `Path.touch` on the marker."""
    file = tmp_path / "a.pt"
    write(file, marker)
    data = file.read_bytes()
    if zipfile.is_zipfile(file):
        [name] = (n for n in zipfile.ZipFile(file).namelist() if n.endswith("data.pkl"))
        data = zipfile.ZipFile(file).read(name)
    stream, codes = io.BytesIO(data), list[tuple[str, object]]()
    while stream.tell() < len(data):  # the older format has one pickle after the other
        codes += [(code.name, argument) for code, argument, _ in pickletools.genops(stream)]
    names = " ".join(str(argument) for _, argument in codes)
    assert "REDUCE" in dict(codes) and "touch" in names and marker.name in names


@pytest.mark.fault(17)
@both
def test_as_a_checkpoint(write: Writer, tmp_path: Path, marker: Path) -> None:
    game = moved(Game(steps=2))
    path = save(game, tmp_path, 2)
    for name in ("module.student.safetensors", "optim.heads.safetensors"):
        write(path / name, marker)
        manifest = json.loads((path / checkpoint.MANIFEST).read_bytes())
        data = (path / name).read_bytes()
        manifest[name] = {"size": len(data), "crc32": zlib.crc32(data)}
        (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    assert checkpoint.newest(tmp_path, pytest.fail) == path  # every sum fits
    other = Game(steps=2)
    with pytest.raises(RunError, match="does not belong to this experiment"):
        checkpoint.load(path, other.method.modules, other.optims)
    assert not marker.exists()


@pytest.mark.fault(17)
@both
@pytest.mark.parametrize("ending", ["safetensors", "pt", "bin", "ckpt"])
def test_as_an_adapter(write: Writer, ending: str, tmp_path: Path, marker: Path) -> None:
    path = tmp_path / f"adapter.{ending}"
    write(path, marker)
    with pytest.raises(UserError, match=r"is a pickle|cannot be read as \.safetensors"):
        open_file(path)
    assert not marker.exists()


@pytest.mark.fault(17)
@both
def test_as_samples(write: Writer, tmp_path: Path, marker: Path) -> None:
    """A shard under sums that fit: its bytes are read where a sample should lie, as numbers."""
    cache = made(CFG, ToyFamily(), PROMPTS, tmp_path / "samples")
    path = shard_path(cache.directory, 0)
    shard = read_shard(path)
    write(path, marker)
    data = path.read_bytes()
    other = replace(shard, size=len(data), crc32=zlib.crc32(data), header=span(data, 0, 16))
    path.with_suffix(".json").write_bytes(sealed(asdict(other)))
    (cache.directory / "index.parquet").unlink()
    found = made(CFG, ToyFamily(), PROMPTS, tmp_path / "samples")
    with pytest.raises(UserError, match=r"sample .* is damaged: bytes .*shard_00000"):
        found.take([0])
    assert list(verify(cache.directory).damaged) == [path]
    pictures = PictureCache(tmp_path / "pictures")
    write(pictures.path({"prompt": "a cat"}), marker)
    with pytest.raises(UserError, match="is damaged"):
        pictures.get({"prompt": "a cat"}, lambda: torch.ones(1))
    assert not marker.exists()


@pytest.mark.fault(17)
@both
@pytest.mark.parametrize("name", [WEIGHTS, "vae/diffusion_pytorch_model.bin"])
def test_as_a_model(write: Writer, name: str, model: Path, tmp_path: Path, marker: Path) -> None:
    model = Path(shutil.copytree(model, tmp_path / "model"))
    (model / name).with_suffix(".safetensors").unlink()
    write(model / name, marker)
    with pytest.raises(UserError, match=r"is broken or cut short|has no safetensors file"):
        ZImage.load(model)
    assert not marker.exists()


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", ["../outside.safetensors", "{outside}", "deeper/../../outside"])
def test_a_manifest_does_not_lead_out_of_its_checkpoint(name: str, tmp_path: Path) -> None:
    path = save(moved(Game(steps=2)), tmp_path / "run", 2)
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(b"x")
    name = name.replace("{outside}", str(outside))
    manifest = json.loads((path / checkpoint.MANIFEST).read_bytes())
    manifest[name] = {"size": 1, "crc32": zlib.crc32(b"x")}
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    why = checkpoint.flaw(path)
    assert why is not None and "is no name of a file in it" in why


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "weights",
    [WEIGHTS, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"],
)
def test_an_index_of_weights_does_not_lead_out_of_its_model(
    weights: str, model: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(model, tmp_path / "model"))
    names = load_file(own / weights)
    (own / weights).rename(tmp_path / "outside.safetensors")
    shutil.copy(model / WEIGHTS, (own / weights).with_name("other.safetensors"))
    listed = {"metadata": {}, "weight_map": dict.fromkeys(names, "../../outside.safetensors")}
    (own / f"{weights}.index.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match=r"index\.json names '\.\./\.\./outside\.safetensors'"):
        ZImage.load(own)
