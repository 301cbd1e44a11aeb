"""The untrained parts of the Shapes teacher: tokenizer, text encoder, vision tower, transformer.

All are the real classes of Z-Image at tiny size; together with the autoencoder of stage 1 they make
an ordinary `ZImagePipeline`.
"""

# pyright: reportArgumentType=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model, Qwen3VLConfig

from fewstep.families.pictures import CLOSE, OPEN, PAD, PictureReader
from fewstep.worlds.shapes.prompts import WORDS

WIDTH = 128
SHIFT = 3.0
PICTURE_TOKENS = slice(3, 12)
"""Where the nine tokens of a picture stand: after the turn, its role and the opening."""
TURNS = ("<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    special = ["<pad>", "<unk>", *TURNS, OPEN, PAD, CLOSE]
    words = [*special, "user", "assistant", *WORDS]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", padding_side="right",
        additional_special_tokens=special[2:], model_max_length=128,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_text_encoder(words: int) -> Qwen3Model:
    """Three layers, because Z-Image reads hidden_states[-2]: two of them decide."""
    return Qwen3Model(
        Qwen3Config(
            vocab_size=words, hidden_size=WIDTH, intermediate_size=256, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=256,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
    )  # fmt: skip


def vision_config(text: Qwen3Config) -> Qwen3VLConfig:
    """A picture, at 66 x 66 pixels, becomes 6 x 6 patches and 9 tokens: with them every prompt of
    the world still fits into the 32 text tokens that Z-Image pads to."""
    language = {
        key: text.to_dict()[key]
        for key in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
            "rms_norm_eps",
        )
    }  # fmt: skip
    language["rope_parameters"] = {
        "rope_type": "default", "rope_theta": 10000.0,
        "mrope_section": [6, 5, 5], "mrope_interleaved": True,
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 96, "intermediate_size": 256, "num_heads": 4, "patch_size": 11,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": text.hidden_size,
        "num_position_embeddings": 36, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    return Qwen3VLConfig(text_config=language, vision_config=vision)


def new_transformer() -> ZImageTransformer2DModel:
    model = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=8, dim=128, n_layers=6,
        n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=WIDTH, axes_dims=[8, 12, 12],
        axes_lens=[256, 64, 64],
    )  # fmt: skip
    # zero pad tokens meet an RMSNorm: their first gradients would dwarf all others
    torch.nn.init.normal_(model.x_pad_token, std=0.02)
    torch.nn.init.normal_(model.cap_pad_token, std=0.02)
    return model


def new_model(vae: AutoencoderKL, seed: int) -> tuple[ZImagePipeline, PictureReader]:
    """The whole untrained model around a trained autoencoder."""
    torch.manual_seed(seed)
    tokenizer = new_tokenizer()
    text_encoder = new_text_encoder(len(tokenizer))
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT),
        vae=vae,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        transformer=new_transformer().eval(),
    )
    reader = PictureReader.build(vision_config(text_encoder.config), text_encoder, tokenizer)
    reader.pixels = (66 * 66, 66 * 66)
    return pipeline, reader
