"""Prompts as the model reads them."""

from __future__ import annotations

import torch

from fewstep.doctor.base import Finding, bad, doubtful, good, not_here
from fewstep.doctor.patient import Model, Patient
from fewstep.experiment.prompts import too_long, trains_on_prompts


@torch.no_grad()
def reading(model: Model) -> Finding:
    """Encoding of prompts: as the pipeline's, one by one as together, and leaving lists alone."""
    family, prompts = model.family, [*model.prompts[:3], ""]
    given = list(prompts)
    together = family.encode_text(given)
    if given != prompts:
        return bad(
            f"encoding changes the list of prompts that it is given: {given[0][:60]!r}",
            "pass a copy to the tokenizer",
        )
    with family.awake():
        theirs, _ = family.pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    for i, (ours, wanted) in enumerate(zip(together.tokens, theirs, strict=True)):
        alone = family.encode_text([prompts[i]]).tokens[0]
        for other, what in ((wanted, "the pipeline reads it"), (alone, "it is read alone")):
            if ours.shape != other.shape or not close(ours, other):
                return bad(
                    f"{prompts[i]!r} is read otherwise than {what} ({tuple(ours.shape)} and "
                    f"{tuple(other.shape)})", "see template, padding and hidden layer of the "
                    "text encoder",
                )  # fmt: skip
    empty = together.tokens[-1]
    if not len(empty) or not bool(empty.isfinite().all()):
        return bad("the empty prompt has no condition", "guidance needs one")
    if len(set(prompts[:2])) == 2 and close(*together.tokens[:2]):
        return bad("two prompts have one condition", "the text encoder does not read")
    lengths = [len(tokens) for tokens in together.tokens]
    return good(f"as the pipeline's; {min(lengths)} to {max(lengths)} tokens, the empty one too")


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape:
        return False
    a, b = a.float(), b.float()
    return float((a - b).square().mean()) < 1e-3 * float(b.square().mean())


def cut_off(patient: Patient) -> Finding:
    """Whether prompts are longer than the model reads."""
    experiment, family = patient.experiment, patient.model.family
    if experiment.data.prompts_file is None or not trains_on_prompts(experiment):
        return not_here("no list of prompts is trained on")
    if cut := too_long(experiment, patient.built.world, family):
        n, text = cut[0]
        return doubtful(
            f"{len(cut)} prompts are cut off, such as {text[:60]!r} of {n} tokens, of which "
            f"{family.longest} are read", "shorten them",
        )  # fmt: skip
    return good(f"none of the prompts has more than {family.longest} tokens")
