"""Z-Image's reading of a prompt: one user turn, hidden_states[-2], no padding."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fewstep.families.base import Cond

LONGEST = 512
"""Tokens of a prompt in its turn that are read, as by the pipeline: the rest is cut off."""


def chat(tokenizer: PreTrainedTokenizerBase, contents: Sequence[str]) -> list[str]:
    """Each content as the only turn of a user, with the start of the answer after it."""
    return [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=False, add_generation_prompt=True, enable_thinking=True,
            )
        )
        for content in contents
    ]  # fmt: skip


def read(
    text_encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_length: int = LONGEST,
) -> Cond:
    """Conditions of the prompts, differentiable with respect to the text encoder.

    The encoder is causal and padding is on the right, so padding to the longest prompt gives what
    the pipeline's padding to `max_length` gives.
    """
    inputs = tokenizer(
        chat(tokenizer, prompts),
        padding=True, truncation=True, max_length=max_length, return_tensors="pt",
    ).to(text_encoder.device)  # fmt: skip
    hidden = text_encoder(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask.bool(),
        output_hidden_states=True,
    ).hidden_states[-2]
    return Cond(
        tuple(h[m.bool()].float() for h, m in zip(hidden, inputs.attention_mask, strict=True))
    )


def length(tokenizer: PreTrainedTokenizerBase, prompt: str) -> int:
    """Tokens of a prompt in its turn, before any is cut off."""
    return len(tokenizer(chat(tokenizer, [prompt]), verbose=False).input_ids[0])


def unknown_words(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[str, ...]:
    """Words that all are one and the same to the model, each once. A tokenizer of bytes knows
    everything, one of whole words does not."""
    read = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    places = zip(read.input_ids, read.offset_mapping, strict=True)
    unknown = (prompt[a:b] for token, (a, b) in places if token == tokenizer.unk_token_id)
    return tuple(dict.fromkeys(unknown))
