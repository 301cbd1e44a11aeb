"""The model card of an exported student: what it is, how to sample it and what made it."""

from __future__ import annotations

from importlib.metadata import version
from typing import assert_never

from fewstep.experiment.config import Experiment
from fewstep.families.base import Family
from fewstep.flow.sigmas import levels
from fewstep.runs import user_path


def card(experiment: Experiment, family: Family, step: int | None = None) -> str:
    """README.md of the directory, with the front matter that model hubs read; of weights after
    `step` steps, None for all."""
    model, steps, samples = experiment.model, experiment.sampling.steps, experiment.data.samples
    steps_done = experiment.loop.steps if step is None else step
    height, width = experiment.data.size()
    on_hub = on_hub_named(model)
    # a directory on this machine is nobody else's base model, and its path nobody's business
    base = [f"base_model: {model}"] if on_hub else []
    name = public_name(model)
    method = type(experiment.method).__name__.removesuffix("Config")
    grid = ", ".join(f"{s:.4g}" for s in levels(family.sigmas(steps)))
    between = {
        "euler": "Euler between them",
        "renoise": "fresh noise between them (the scheduler's `stochastic_sampling`, drawn from "
        "torch's global\n  stream: `torch.manual_seed` makes a picture repeatable)",
    }[experiment.sampling.sampler]
    teacher = public_name(experiment.teacher or model)
    match experiment.data.source:
        case "samples":
            drawn = f"{samples.steps} steps and w = {samples.guidance:g}"
            learnt = f"towards pictures that `{teacher}` draws in {drawn}"
        case "prompts":
            learnt = f"on prompts alone, with `{teacher}` as teacher"
        case "folder":
            learnt = "on a folder of pictures with captions"
        case _:
            assert_never(experiment.data.source)
    front = ["---", *base, "library_name: diffusers", "pipeline_tag: text-to-image",
             "tags:", "- fewstep", "---"]  # fmt: skip
    return (
        "\n".join(front)
        + f"""

# {name}, in {steps} steps

A student of `{name}` that makes a picture in {steps} calls of the model, without guidance.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("path/to/this/folder")
image = pipe(
    "a prompt", height={height}, width={width},
    num_inference_steps={steps}, guidance_scale={family.pipeline_guidance(1.0)},
).images[0]
```

- **Sampling**: {steps} steps at noise levels {grid} (1 is noise), {between}.
  The pipeline's own grid at this number of steps is the same; the student was trained for these
  levels alone.
- **Guidance**: w = 1.0, which is none. This pipeline calls it
  `guidance_scale={family.pipeline_guidance(1.0)}`.
- **Training**: {method}, {steps_done} steps of batch {experiment.data.batch_size}, seed
  {experiment.seed}, {learnt}.
- **Made by**: fewstep {version("fewstep")}; the `config.yaml` of the run is the whole recipe.
- **Licence**: that of `{name}`.
"""
    )


def public_name(model: str) -> str:
    """What others may read of a model's name: a path tells its last folder alone, or, of a model
    that a run wrote, the run's."""
    if on_hub_named(model):
        return model
    path = user_path(model).resolve()  # "." has a name too
    return path.parent.name if path.name == "model" else path.name


def on_hub_named(model: str) -> bool:
    """Whether the name is one of a hub, and not a path of this machine."""
    return model.count("/") == 1 and not user_path(model).exists()
