"""`fewstep VERB --help`."""

from __future__ import annotations

from fewstep.cli.doctoring import DoctorDataRequest, DoctorHelp, DoctorModelRequest
from fewstep.cli.options import print_help
from fewstep.cli.planning import PlanHelp
from fewstep.cli.precomputing import PrecomputeHelp, StatsRequest, VerifyRequest
from fewstep.cli.sweeping import SweepHelp
from fewstep.cli.verbs import (
    EvalHelp,
    ExportRequest,
    NoOptions,
    PromptsRequest,
    ReportRequest,
    SampleRequest,
    TrainHelp,
)
from fewstep.evaluate.story import EvalConfig
from fewstep.recipes import RECIPES

DEMO = "ladd_shapes_demo"


def show_help(verb: str, first: str) -> int:
    """The options of a verb; those of `train` with the values of the recipe named `first`."""
    prog = f"fewstep {verb}"
    match verb:
        case "train" | "demo":
            name, of = of_recipe(DEMO if verb == "demo" else first)
            about = "Distil, measure and report in one go." if verb == "demo" else (
                f"Train what a recipe describes, with any of its values changed. {of}"
            )  # fmt: skip
            prog += f" {name}" if verb == "train" else ""
            print_help(TrainHelp, prog, about, TrainHelp(experiment=RECIPES[name]()))
        case "plan":
            name, about = of_recipe(first)
            print_help(
                PlanHelp, f"{prog} {name}", "Say what `fewstep train` with the same options would "
                f"take: operations, memory, hours, room. Nothing is loaded. {about}",
                PlanHelp(experiment=RECIPES[name]()),
            )  # fmt: skip
        case "doctor" if first == "model":
            print_help(DoctorModelRequest, f"{prog} MODEL", "Look at a model alone.")
        case "doctor" if first == "data":
            print_help(DoctorDataRequest, f"{prog} DATA", "Look at prompts or pictures.")
        case "doctor":
            name, about = of_recipe(first)
            print_help(
                DoctorHelp, f"{prog} {name}", "Look at what `fewstep train` with the same options "
                "would train: a line for each check, with its evidence. `fewstep doctor MODEL` and "
                "`doctor DATA` look at a model directory, a file of prompts or a folder of "
                f"pictures alone (`doctor model --help`, `doctor data --help`). {about}",
                DoctorHelp(experiment=RECIPES[name]()),
            )  # fmt: skip
        case "precompute" if first == "verify":
            print_help(VerifyRequest, f"{prog} verify", "Read every byte of teacher samples.")
        case "precompute" if first == "stats":
            print_help(StatsRequest, f"{prog} stats", "Say what there is of teacher samples.")
        case "precompute":
            name, about = of_recipe(first)
            print_help(
                PrecomputeHelp, f"{prog} {name}", "Draw the samples that `fewstep train` would "
                f"draw first; the same command on other machines that see the folder takes part. "
                f"{about}",
                PrecomputeHelp(experiment=RECIPES[name]()),
            )  # fmt: skip
        case "sweep":
            name, about = of_recipe(first)
            print_help(
                SweepHelp, f"{prog} {name}", "Run many short trials of what `fewstep train` with "
                "the same options would train, and say which change of it is better for certain. "
                f"{about}",
                SweepHelp(experiment=RECIPES[name]()),
            )  # fmt: skip
        case "export":
            print_help(
                ExportRequest, prog, "The model of a run's best or newest checkpoint, or of step "
                "N, by one process and on the CPU, whatever number of processes has saved it.",
            )  # fmt: skip
        case "sample":
            print_help(SampleRequest, prog, "Pictures from a model directory.")
        case "eval":
            print_help(
                EvalHelp, prog, "Measure a finished run's teacher and student against the truth "
                "(--eval.*, by default as the run's configuration says), or any models by --suite.",
                EvalHelp(models=("MODEL",), suite="quick", eval=EvalConfig()),
            )  # fmt: skip
        case "report":
            print_help(ReportRequest, prog, "Write one self-contained page of runs or evaluations.")
        case "prompts":
            print_help(
                PromptsRequest, prog, "Read prompts, clean them, drop duplicates and leaks, tell "
                "their kinds, fill gaps, sample and split.",
            )  # fmt: skip
        case _:
            print_help(NoOptions, prog, "What can be run, with hardware, duration and score.")
    return 0


def of_recipe(first: str) -> tuple[str, str]:
    """The recipe that is asked about, or the first there is, and what to say of it."""
    name = first if first in RECIPES else next(iter(RECIPES))
    return name, f"Recipes: {', '.join(RECIPES)}; the defaults here are those of {name}."
