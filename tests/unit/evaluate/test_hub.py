"""DINOv2 and CLIP from a directory of transformers: features, and weights that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.evaluate.test_features import CPU, IMAGES, PROMPTS
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, Dinov2Config, Dinov2Model

from fewstep.errors import UserError
from fewstep.evaluate.features import make_extractors
from fewstep.evaluate.hub import CLIP, DINOv2
from fewstep.shapes import Pixels


def test_dinov2_is_the_class_token(tmp_path: Path) -> None:
    extractor = dinov2(small_dinov2(tmp_path))
    processor, model = CLIPImageProcessor.from_pretrained(tmp_path), extractor.loaded.model
    pixels = processor([image for image in to_pil(IMAGES)], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        wanted = model(pixel_values=pixels).pooler_output.numpy()
    np.testing.assert_allclose(extractor(IMAGES), wanted, atol=1e-5)


def small_dinov2(folder: Path, **rules: Any) -> Path:
    torch.manual_seed(0)
    small = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28)
    Dinov2Model(small).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=28, **rules).save_pretrained(folder)
    return folder


def dinov2(folder: Path) -> DINOv2:
    [extractor] = make_extractors([f"dinov2:{folder}"], CPU)
    assert isinstance(extractor, DINOv2)
    return extractor


def test_a_fingerprint_knows_the_weights_and_what_is_done_to_a_picture(tmp_path: Path) -> None:
    one = dinov2(small_dinov2(tmp_path / "a"))
    assert one.fingerprint == dinov2(small_dinov2(tmp_path / "b")).fingerprint
    plain = dinov2(small_dinov2(tmp_path / "c", image_mean=[0, 0, 0], image_std=[1, 1, 1]))
    assert np.abs(plain(IMAGES) - one(IMAGES)).max() > 0.1
    assert plain.fingerprint != one.fingerprint
    config = tmp_path / "b" / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    other = dinov2(tmp_path / "b")
    assert np.abs(other(IMAGES) - one(IMAGES)).max() > 1e-4
    assert other.fingerprint != one.fingerprint


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """transformers fills what is missing with random numbers."""
    wrong = small_dinov2(tmp_path / "dinov2")
    tokenizer(WORLD_WORDS).save_pretrained(wrong)
    with pytest.raises(UserError, match="holds a model of the type dinov2, this needs clip"):
        make_extractors([f"clip:{wrong}"], CPU)
    clip = small_clip(tmp_path / "clip")
    with pytest.raises(UserError, match="of the type clip, this needs dinov2 or dinov2_with_regi"):
        make_extractors([f"dinov2:{clip}"], CPU)
    weights = load_file(clip / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if k != "visual_projection.weight"},
        clip / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"lacks 1 weights .* first is visual_projection\.weight"):
        make_extractors([f"clip:{clip}"], CPU)


def test_half_precision_weights_count_in_float32(tmp_path: Path) -> None:
    folder = small_dinov2(tmp_path)
    model = Dinov2Model.from_pretrained(folder).half()
    model.save_pretrained(folder)
    extractor = dinov2(folder)
    [wanted] = [  # the rounded weights, but float32 arithmetic
        model.float()(pixel_values=batch).last_hidden_state[:, 0].detach().numpy()
        for batch in extractor.loaded.batches(IMAGES)
    ]
    np.testing.assert_allclose(extractor(IMAGES), wanted, atol=1e-6)


def to_pil(images: Pixels) -> list:
    from PIL import Image

    from fewstep.evaluate.grids import to_bytes

    return [Image.fromarray(pixels) for pixels in to_bytes(images)]


def small_clip(folder: Path) -> Path:
    """A CLIP with random weights that reads the prompts, as a directory."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text = {**small, "num_attention_heads": 2, "vocab_size": 64, "max_position_embeddings": 12,
            "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    vision = {**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(
        folder
    )
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    tokenizer(WORLD_WORDS).save_pretrained(folder)
    return folder


def test_clip_embeddings_have_length_one(tmp_path: Path) -> None:
    clip = CLIP(str(small_clip(tmp_path)), CPU)
    images, texts = clip(IMAGES), clip.text(PROMPTS)
    assert images.shape == texts.shape == (6, 8)
    for features in (images, texts):
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(clip.text(PROMPTS[2:3])[0], texts[2], atol=1e-5)  # padding is unseen
    assert np.abs(texts[0] - texts[1]).max() > 1e-3


WORLD_WORDS = sorted({word for prompt in PROMPTS for word in prompt.split()})


def tokenizer(words: list[str]):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {w: i for i, w in enumerate(["<pad>", "<s>", "</s>", "<unk>", *words])}
    own = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", model_max_length=12,
    )  # fmt: skip
