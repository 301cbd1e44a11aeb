"""Features are computed once and kept under the hash of picture and extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, Dinov2Config, Dinov2Model

from fewstep.errors import UserError
from fewstep.evaluate.features import (
    FeatureCache,
    PixelExtractor,
    ShapesExtractor,
    image_hashes,
    make_extractors,
    parse_extractor,
)
from fewstep.evaluate.gallery import eight_bit
from fewstep.evaluate.hub import CLIP, DINOv2
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.world import Shapes

CPU = torch.device("cpu")
WORLD = Shapes()
PROMPTS = WORLD.prompts("test", 6)
IMAGES = WORLD.truth(PROMPTS, range(6))


class Counted(PixelExtractor):
    """Counts the pictures that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        self.seen += len(images)
        return super().__call__(images)


def test_a_picture_is_seen_once(tmp_path: Path) -> None:
    extractor = Counted()
    cache = FeatureCache(tmp_path, extractor)
    first = cache(IMAGES[:4])
    assert extractor.seen == 4 and np.array_equal(first, PixelExtractor()(IMAGES[:4]))
    both = cache(IMAGES[2:])
    assert extractor.seen == 6 and np.array_equal(both[:2], first[2:])
    cache.flush()
    again = Counted()
    kept = FeatureCache(tmp_path, again)(IMAGES.flip(0))
    assert again.seen == 0 and np.array_equal(kept[::-1], np.concatenate([first, both[2:]]))


def test_what_was_not_flushed_is_computed_again(tmp_path: Path) -> None:
    FeatureCache(tmp_path, Counted())(IMAGES)
    extractor = Counted()
    FeatureCache(tmp_path, extractor)(IMAGES)
    assert extractor.seen == 6 and not list(tmp_path.iterdir())


def test_the_hash_is_of_the_eight_bit_picture() -> None:
    other = IMAGES.clone()
    other[0, 0, 0, 0] = (other[0, 0, 0, 0] + 0.5) % 1
    rounded = eight_bit(IMAGES)
    assert (image_hashes(rounded + 0.4 / 255 * (rounded < 0.5)) == image_hashes(IMAGES)).all()
    changed = (image_hashes(other) != image_hashes(IMAGES)).any(1)
    assert changed.tolist() == [True] + [False] * 5
    assert (image_hashes(IMAGES[:1].flip(2)) != image_hashes(IMAGES[:1])).any()
    wide, tall = torch.ones(1, 3, 4, 8), torch.ones(1, 3, 8, 4)  # of the same bytes
    assert (image_hashes(wide) != image_hashes(tall)).any()


def test_features_of_another_extractor_are_refused(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PixelExtractor())
    cache(IMAGES)
    cache.flush()
    shapes = ShapesExtractor()
    (tmp_path / cache.folder.name).rename(tmp_path / f"shapes-{shapes.fingerprint}")
    with pytest.raises(UserError, match=r"holds features of pixels-area16, not of shapes-"):
        FeatureCache(tmp_path, shapes)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, PixelExtractor())
    cache(IMAGES)
    cache.flush()
    [path] = cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"is damaged .* delete it, it is made again"):
        FeatureCache(tmp_path, PixelExtractor())


def test_features_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    class Broken(PixelExtractor):
        def __call__(self, images: Pixels) -> NDArray[np.float32]:
            return np.full((len(images), 3), np.nan, np.float32)

    with pytest.raises(UserError, match="the extractor pixels gives features that are not finite"):
        FeatureCache(tmp_path, Broken())(IMAGES)


def test_shapes_is_the_network_of_the_world() -> None:
    np.testing.assert_allclose(ShapesExtractor()(IMAGES), WORLD.features(IMAGES), rtol=1e-6)


def test_pixels_see_what_is_where() -> None:
    found = PixelExtractor()(
        torch.ones(1, 3, 64, 48) * torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    )
    assert found.shape == (1, 3 * 16 * 16)
    np.testing.assert_allclose(found.reshape(3, -1).mean(1), [1, 0, -1], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dino", "there is no extractor 'dino'; there are shapes, pixels"),
        ("shapes:x", "the extractor shapes has weights of its own; leave ':x' out"),
        ("clip:", "names no weights behind the colon"),
    ],
)
def test_unknown_extractors(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_extractor(text)


def test_an_extractor_is_named_once() -> None:
    with pytest.raises(UserError, match="the extractor pixels is named twice"):
        make_extractors(["pixels", "shapes", "pixels"], CPU)


def test_missing_weights_say_what_to_give(tmp_path: Path) -> None:
    for name in ("clip", "dinov2"):
        with pytest.raises(UserError, match=r"cannot be loaded .* give a directory that holds"):
            make_extractors([f"{name}:{tmp_path}"], CPU)
    with pytest.raises(UserError, match=r"pip install 'fewstep\[eval\]'|weights cannot be loaded"):
        make_extractors([f"inception:{tmp_path / 'none.pth'}"], CPU)


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
