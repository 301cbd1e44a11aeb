"""All checks, in the order in which they stand on one another."""

from __future__ import annotations

from fewstep.doctor import gradients, pictures, run, sampling, text, training
from fewstep.doctor.base import Check, of_model
from fewstep.doctor.patient import Model, Patient

SAMPLER = ("convention", "pipeline")
MODEL_CHECKS: tuple[Check[Model], ...] = (
    Check(name="text", asks="Are prompts read as the model's pipeline reads them?",
          look=text.reading),
    Check(name="grid", asks="Do sampler and pipeline visit the same levels?", look=sampling.grid),
    Check(name="convention", asks="Are time and sign those of the model?",
          look=sampling.convention),
    Check(name="pipeline", asks="Does our sampler draw what the diffusers pipeline draws?",
          look=sampling.pipeline, needs=("text", "grid", "convention")),
    Check(name="autoencoder", asks="Do latents come back through pictures as large as they were?",
          look=pictures.autoencoder),
    Check(name="guidance grid", asks="Are its pictures sharp, and at which guidance?",
          look=sampling.guidance_grid, needs=SAMPLER, slow=True),
    Check(name="gap", asks="Is there a gap between few steps and many?", look=sampling.gap,
          needs=SAMPLER, slow=True),
)  # fmt: skip
CHECKS: tuple[Check[Patient], ...] = (
    *map(of_model, MODEL_CHECKS),
    Check(name="levels", asks="Does training visit the levels of the sampler?",
          look=sampling.levels, needs=("grid",)),
    Check(name="guidance", asks="Is the teacher guided?", look=sampling.guidance, needs=SAMPLER),
    Check(name="samples", asks="Are samples what the teacher draws?", look=pictures.samples,
          needs=("convention", "autoencoder")),
    Check(name="captions", asks="Do prompts belong to their samples?", look=pictures.captions,
          needs=("convention", "samples", "text")),
    Check(name="cut off", asks="Are prompts read to their end?", look=text.cut_off),
    Check(name="leaks", asks="Is an evaluation trained on?", look=run.leaks),
    Check(name="micro-batches", asks="Does the loss see enough samples at once?",
          look=training.micro_batches),
    Check(name="student input", asks="Does the student see its pictures at its levels?",
          look=training.student_input),
    Check(name="estimate", asks="Is what is judged the clean end of the student's velocity?",
          look=training.estimate, needs=("student input",)),
    Check(name="judge", asks="Can the heads tell real from fake?", look=training.judge,
          needs=("estimate",)),
    Check(name="concept", asks="Can the teacher draw what it is shown?", look=run.concept,
          needs=SAMPLER, slow=True),
    Check(name="adapter", asks="Does the adapter adapt?", look=training.adapter),
    Check(name="gradients", asks="Does everything that trains have a gradient?",
          look=gradients.gradients, needs=("adapter",)),
    Check(name="recompute", asks="Are blocks computed again where that was asked for?",
          look=gradients.recomputed, needs=("gradients",)),
    Check(name="updates", asks="Do updates move weights, and only those that train?",
          look=gradients.updates, needs=("gradients",), moves=True),
)  # fmt: skip
