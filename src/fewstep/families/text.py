"""Z-Image's reading of a prompt: one user turn, hidden_states[-2], no padding."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fewstep.families.base import Cond


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
    max_length: int = 512,
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
