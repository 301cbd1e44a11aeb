"""All checks, in the order in which they stand on one another."""

from __future__ import annotations

from fewstep.doctor import pictures, run, sampling, training
from fewstep.doctor.base import Check

MODEL = ("convention", "pipeline")
CHECKS: tuple[Check, ...] = (
    Check(name="text", asks="Are prompts read as the model's pipeline reads them?",
          look=sampling.text),
    Check(name="grid", asks="Do sampler, pipeline and training visit the same levels?",
          look=sampling.grid),
    Check(name="convention", asks="Are time and sign those of the model?",
          look=sampling.convention),
    Check(name="pipeline", asks="Does our sampler draw what the diffusers pipeline draws?",
          look=sampling.pipeline, needs=("text", "grid", "convention")),
    Check(name="autoencoder", asks="Do latents come back through pictures as large as they were?",
          look=pictures.autoencoder),
    Check(name="guidance", asks="Is the teacher guided?", look=sampling.guidance, needs=MODEL),
    Check(name="guidance grid", asks="Are its pictures sharp, and at which guidance?",
          look=sampling.guidance_grid, needs=MODEL, slow=True),
    Check(name="gap", asks="Is there a gap between few steps and many?", look=sampling.gap,
          needs=MODEL, slow=True),
    Check(name="samples", asks="Are samples what the teacher draws?", look=pictures.samples,
          needs=("convention", "autoencoder")),
    Check(name="captions", asks="Do prompts belong to their samples?", look=pictures.captions,
          needs=("convention", "samples", "text")),
    Check(name="leaks", asks="Is an evaluation trained on?", look=run.leaks),
    Check(name="micro-batches", asks="Does the loss see enough samples at once?",
          look=training.micro_batches),
    Check(name="student input", asks="Does the student see its pictures at its levels?",
          look=training.student_input, needs=("samples",)),
    Check(name="estimate", asks="Is what is judged the clean end of the student's velocity?",
          look=training.estimate, needs=("student input",)),
    Check(name="judge", asks="Can the heads tell real from fake?", look=training.judge,
          needs=("estimate",)),
    Check(name="concept", asks="Can the teacher draw what it is shown?", look=run.concept,
          needs=MODEL, slow=True),
    Check(name="adapter", asks="Does the adapter adapt?", look=training.adapter),
    Check(name="gradients", asks="Does everything that trains have a gradient?",
          look=training.gradients, needs=("adapter", "judge")),
    Check(name="recompute", asks="Are blocks computed again where that was asked for?",
          look=training.recomputed, needs=("gradients",)),
    Check(name="updates", asks="Do updates move weights, and only those that train?",
          look=training.updates, needs=("gradients",), moves=True),
)  # fmt: skip
