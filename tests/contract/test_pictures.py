"""Reading a picture in context, through a Qwen3-VL tower in the model or beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import tiny_pictures, tiny_zimage
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLModel

from fewstep.errors import UserError
from fewstep.families import directory
from fewstep.families.pictures import OPEN, PIXELS, PictureReader, fit, patches
from fewstep.families.zimage import PICTURE_ENCODER, ZImage

PROMPTS = ["a red circle and a blue square on a white background", "two green stars"]
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


@pytest.fixture(scope="module")
def blind(family: ZImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory without a picture encoder."""
    where = tmp_path_factory.mktemp("blind") / "model"
    ZImage(family.pipeline, None).save(where, family.backbone)
    return where


@pytest.fixture(scope="module")
def outside(family: ZImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Qwen3-VL as its makers publish it, with language weights and settings of its own."""
    where = tmp_path_factory.mktemp("outside") / "qwen"
    config = Qwen3VLConfig.from_dict(tiny_pictures(family).model.config.to_dict())
    config.text_config.num_hidden_layers = 2
    config.text_config.rope_parameters["rope_theta"] = 5e6
    torch.manual_seed(7)
    Qwen3VLForConditionalGeneration(config).save_pretrained(where)
    limits = {"size": {"shortest_edge": 66 * 66, "longest_edge": 16_777_216}}
    (where / "preprocessor_config.json").write_text(json.dumps(limits))
    return where


def test_text_alone_reads_the_same_through_the_picture_reader(family: ZImage) -> None:
    """The language weights of the picture reader are the text encoder's own, not copies."""
    reader = tiny_pictures(family)
    ids = family.pipeline.tokenizer(["a red circle"], return_tensors="pt").input_ids
    with torch.no_grad():
        a = family.pipeline.text_encoder(input_ids=ids, output_hidden_states=True)
        b = reader.model(
            input_ids=ids, attention_mask=torch.ones_like(ids),
            mm_token_type_ids=torch.zeros_like(ids, dtype=torch.int32), output_hidden_states=True,
        )  # fmt: skip
    torch.testing.assert_close(a.hidden_states[-2], b.hidden_states[-2], rtol=0, atol=1e-6)
    theirs = {p.data_ptr() for p in family.pipeline.text_encoder.parameters()}
    assert {p.data_ptr() for p in reader.model.language_model.parameters()} <= theirs


def test_a_picture_in_context_is_read(family: ZImage) -> None:
    seen = family.encode_text(PROMPTS, IMAGES)
    other = family.encode_text(PROMPTS, IMAGES.flip(0))
    alone = family.encode_text(PROMPTS[1:], IMAGES[1:])
    assert all(len(t) <= 32 for t in seen.tokens)
    assert (seen.tokens[0] - other.tokens[0]).abs().max() > 1e-3
    torch.testing.assert_close(seen.tokens[1], alone.tokens[0], atol=1e-5, rtol=1e-5)


def test_patches_are_those_of_the_real_processor() -> None:
    from transformers import Qwen2VLImageProcessor

    images = torch.randint(0, 256, (1, 3, 88, 66)).float()
    processor = Qwen2VLImageProcessor(
        patch_size=11, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3,
        image_std=[0.5] * 3, size={"shortest_edge": 66 * 66, "longest_edge": 132 * 132},
    )  # fmt: skip
    theirs = processor(images=[images[0].byte()], return_tensors="pt")
    ours, grid = patches(images / 255, 11, 2, 2)
    torch.testing.assert_close(ours, theirs["pixel_values"], atol=1e-5, rtol=0)
    assert grid.tolist() == theirs["image_grid_thw"].tolist()


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [((64, 64), (66 * 66, 66 * 66), (66, 66)), ((1000, 500), (0, 220 * 220), (308, 154)),
     ((20, 40), (88 * 88, 10**6), (66, 132))],
)  # fmt: skip
def test_fit_keeps_the_aspect_within_the_limits(
    size: tuple[int, int], limits: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit(*size, 22, *limits) == expected


def test_saving_writes_the_reader_that_the_family_holds(family: ZImage, tmp_path: Path) -> None:
    """Not the file that it was once read from; in the type that it has."""
    family.save(tmp_path / "first", family.backbone)
    again = ZImage.load(tmp_path / "first")
    visual = tiny_pictures(again).model.visual.to(torch.float16)
    with torch.no_grad():
        visual.merger.linear_fc1.bias += 1
    again.save(tmp_path / "second", again.backbone)
    stored = load_file(tmp_path / "second" / PICTURE_ENCODER / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    bias = stored["visual.merger.linear_fc1.bias"]
    torch.testing.assert_close(bias, visual.merger.linear_fc1.bias, rtol=0, atol=0)


def test_a_new_reader_initialises_no_second_language_model(
    family: ZImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the tower is that of the plain constructor at the same seed, buffers included."""
    config = Qwen3VLConfig.from_dict(tiny_pictures(family).model.config.to_dict())
    torch.manual_seed(11)
    plain = Qwen3VLModel(config)
    sizes: list[int] = []
    normal = torch.Tensor.normal_
    monkeypatch.setattr(
        torch.Tensor, "normal_",
        lambda self, *a, **k: (sizes.append(self.numel() * (self.device.type == "cpu")),
                               normal(self, *a, **k))[1],
    )  # fmt: skip
    torch.manual_seed(11)
    text = family.pipeline.text_encoder
    reader = PictureReader.build(config, text, family.pipeline.tokenizer)
    drawn, visual = sum(sizes), reader.model.visual.state_dict()
    assert 0 < drawn <= sum(value.numel() for value in visual.values())
    for name, value in plain.visual.state_dict().items():
        torch.testing.assert_close(visual[name], value, rtol=0, atol=0)
    theirs = dict(plain.named_buffers())
    for name, value in reader.model.named_buffers():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=0)


def test_an_outside_picture_encoder_lends_its_vision_tower_alone(
    blind: Path, outside: Path
) -> None:
    """Its language weights, depth and rotary base are not those of the text encoder."""
    with pytest.raises(UserError, match="no picture_encoder/ folder"):
        ZImage.load(blind).encode_text(PROMPTS, IMAGES)
    family = ZImage.load(blind, picture_encoder=outside)
    reader = tiny_pictures(family)
    assert reader.pixels == (66 * 66, PIXELS[1])
    tower = load_file(outside / "model.safetensors")
    for name, value in reader.model.visual.state_dict().items():
        torch.testing.assert_close(value, tower[f"model.visual.{name}"], rtol=0, atol=0)
    ids = family.pipeline.tokenizer(["a red circle"], return_tensors="pt").input_ids
    with torch.no_grad():
        a = family.pipeline.text_encoder(input_ids=ids, output_hidden_states=True)
        b = reader.model(input_ids=ids, output_hidden_states=True)
    torch.testing.assert_close(a.hidden_states[-2], b.hidden_states[-2], rtol=0, atol=1e-6)
    seen, other = family.encode_text(PROMPTS, IMAGES), family.encode_text(PROMPTS, IMAGES.flip(0))
    assert (seen.tokens[0] - other.tokens[0]).abs().max() > 1e-3


def test_a_saved_model_keeps_its_outside_picture_encoder(
    blind: Path, outside: Path, tmp_path: Path
) -> None:
    family = ZImage.load(blind, picture_encoder=outside)
    family.save(tmp_path / "m", family.backbone)
    again = ZImage.load(tmp_path / "m")
    assert again.fingerprint() == family.fingerprint()
    a, b = family.encode_text(PROMPTS, IMAGES), again.encode_text(PROMPTS, IMAGES)
    torch.testing.assert_close(a.tokens[0], b.tokens[0], rtol=0, atol=0)


def test_model_and_picture_encoder_may_be_hub_ids(
    blind: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = {"someone/model": blind, "someone/tower": outside}
    asked: list[str] = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        assert not any("bin" in pattern or "py" in pattern for pattern in allow_patterns)
        asked.append(name)
        return str(hub[name])

    monkeypatch.setattr(directory, "snapshot_download", snapshot)
    family = ZImage.load("someone/model", picture_encoder="someone/tower")
    assert asked == list(hub) and family.pictures is not None


def test_a_picture_encoder_that_does_not_fit_is_refused(
    blind: Path, outside: Path, tmp_path: Path
) -> None:
    def refused(place: Path | str) -> str:
        with pytest.raises(UserError) as error:
            ZImage.load(blind, picture_encoder=place)
        return str(error.value)

    assert "picture encoder" in refused(tmp_path / "nowhere")
    assert "holds a qwen3 model" in refused(blind / "text_encoder")
    other = tmp_path / "other"
    other.mkdir()
    for file in outside.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    fields = json.loads((other / "config.json").read_text())
    fields["vision_config"]["depth"] = 3
    (other / "config.json").write_text(json.dumps(fields))
    assert "blocks.2" in refused(other) and str(other) in refused(other)
    fields["vision_config"]["out_hidden_size"] = 64
    (other / "config.json").write_text(json.dumps(fields))
    assert "64" in refused(other) and "128 wide" in refused(other)
    (other / "model.safetensors").write_bytes(b"")
    assert str(other / "model.safetensors") in refused(other)


def test_a_tokenizer_without_places_for_pictures_is_refused(family: ZImage) -> None:
    class Wordless:
        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    reader = tiny_pictures(family)
    with pytest.raises(UserError, match="the tokenizer has no") as error:
        PictureReader.build(reader.model.config, family.pipeline.text_encoder, Wordless())  # type: ignore[arg-type]
    assert OPEN in str(error.value)
