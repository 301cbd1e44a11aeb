"""Records of the claims that nothing has measured yet: `python -m benchmarks.unmeasured`.

Writes a record without a value for each of them, with the command that measures it; records that
exist are left alone.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from benchmarks.common import claim, facts

from fewstep import claims
from fewstep.evaluate.statistics import Estimate

# ruff: noqa: E501
PLANNED: dict[str, dict[str, tuple[str, str, str]]] = {
  "spine": {
    "demo_minutes": ("wall minutes of `make demo` in a fresh clone", "<= 10", "benchmarks.fresh_clone demo"),
    "test_minutes": ("wall minutes of `make test` in a fresh clone", "<= 15", "benchmarks.fresh_clone test"),
    "teacher_adherence": ("prompts fully right, teacher at full steps and its best guidance", ">= 0.95", "benchmarks.teacher"),
    "teacher_layout_diversity": ("layout diversity of the teacher over the truth's", "0.9 to 1.1", "benchmarks.teacher"),
    "teacher_4step_adherence_drop": ("adherence lost at 4 steps without guidance", ">= 0.15", "benchmarks.teacher"),
    "in_context_success": ("concepts drawn right in a new layout after one picture", "", "benchmarks.in_context"),
    "ladd_gap_closed": ("share of the KID gap closed by the 4-step student", ">= 0.8", "benchmarks.studies run seeds"),
    "ladd_adherence_drop": ("adherence of the full-step teacher minus the 4-step student's", "<= 0.02", "benchmarks.studies run seeds"),
    "ladd_collapsed_runs": ("training seeds that collapsed", "<= 0", "benchmarks.studies run seeds"),
    "ladd_layout_diversity": ("layout diversity of the student over the truth's", "", "benchmarks.studies run seeds"),
    "wrong_convention_gap_closed": ("the same share with time and sign of the public Z-Image code", "", "benchmarks.studies run convention"),
    "one_pass_speedup": ("time of the naive LADD step over the one-pass step (student moves)", ">= 1.3", "benchmarks.one_pass"),
    "one_pass_speedup_n3": ("the same where the student moves on every 3rd step", "", "benchmarks.one_pass"),
    "ladd_minutes": ("wall minutes of one LADD run at the full Shapes budget", "", "benchmarks.studies run seeds"),
  },
  "sda": {
    "gap_recovered": ("share of the layout diversity gap to the teacher that SDA gives back", ">= 0.8", "benchmarks.sda run seeds8"),
    "gap_recovered_4step": ("the same for the 4-step student", "", "benchmarks.sda run seeds"),
    "kid_change": ("KID with the adapter minus without", "", "benchmarks.sda run seeds8"),
    "adherence_drop": ("adherence without the adapter minus with it", "<= 0.01", "benchmarks.sda run seeds8"),
    "sharpness_change": ("sharpness with the adapter over without, minus 1", "-0.05 to 0.05", "benchmarks.sda run seeds8"),
    "best_yardstick_gap_recovered": ("share of the gap that the best way without training gives back", "", "benchmarks.sda run yardsticks"),
    "card_formula_gap_recovered": ("share of the gap that SDA gives back with x0 = z - v", "", "benchmarks.sda run ablations"),
    "image_free_gap_recovered": ("share of the gap that SDA gives back without pictures", "", "benchmarks.sda run ablations"),
  },
  "dopsd": {
    "teacher_concept_success": ("novel prompts whose concept the in-context teacher draws right in a new place", "", "benchmarks.dopsd run teacher"),
    "concept_success_ratio": ("the same of students tuned by D-OPSD, told the prompt alone, over the teacher's", ">= 0.9", "benchmarks.dopsd run methods"),
    "old_prompt_adherence_drop": ("adherence on test prompts before minus after D-OPSD, 4 steps", "<= 0.01", "benchmarks.dopsd run methods"),
    "old_prompt_kid_change": ("KID on test prompts after minus before D-OPSD, 4 steps", "", "benchmarks.dopsd run methods"),
    "concept_layout_diversity": ("layout diversity of novel prompts over the untouched student's on the same prompts in words", ">= 0.85", "benchmarks.dopsd run methods"),
    "sft_concept_success": ("concept success of SFT at the same budget", "", "benchmarks.dopsd run methods"),
    "sft_4step_adherence_drop": ("adherence on test prompts before minus after SFT, 4 steps", "", "benchmarks.dopsd run methods"),
    "dreambooth_concept_success": ("concept success of DreamBooth at the same budget", "", "benchmarks.dopsd run methods"),
    "pso_concept_success": ("concept success of PSO at the same budget", "", "benchmarks.dopsd run methods"),
    "offpolicy_concept_success": ("concept success of off-policy distillation at the same budget", "", "benchmarks.dopsd run methods"),
    "memory_growth_with_k": ("what autograd holds at 16 states over 2 states of D-OPSD", "<= 1.02", "benchmarks.dopsd run memory"),
  },
  "fit": {
    "ladd_full_peak_gib": ("GiB at the most, all weights of Z-Image by LADD, 512 px, batch 8, exact float32 weights", "<= 66", "benchmarks.memory"),
    "ladd_lora_peak_gib": ("GiB at the most, a LoRA on Z-Image by LADD, 512 px, batch 8", "<= 22", "benchmarks.memory"),
    "ladd_lora_1024_peak_gib": ("GiB at the most, a LoRA on Z-Image by LADD, 1024 px, batch 1", "<= 18", "benchmarks.memory"),
    "step_speedup_gpu": ("time of the naive LADD step over ours, both phases, on a GPU", ">= 1.7", "benchmarks.step"),
    "mfu_student_step": ("share of the GPU's peak in a step of heads and student", ">= 0.5", "benchmarks.step"),
    "mfu_heads_step": ("share of the GPU's peak in a step of the heads", ">= 0.5", "benchmarks.step"),
    "plan_flops_error": ("largest difference of planned and counted operations, as a share", "<= 0", "benchmarks.plan"),
    "plan_memory_error": ("largest difference of planned and weighed peak memory, as a share", "<= 0.1", "benchmarks.plan"),
    "step_speedup_cpu": ("time of the naive LADD step over ours on one core, Shapes", ">= 1.3", "benchmarks.step"),
    "lokr_forward_ratio_gpu": ("time of a forward with a LoKr over one without, on a GPU", "<= 1.2", "benchmarks.lokr_speed"),
    "checkpoint_stall_seconds": ("seconds that training waits for a checkpoint at 6.15 billion weights", "", "benchmarks.checkpoint"),
  },
  "survive": {
    "faults_passed": ("of the twenty fault tests, how many pass", ">= 20", "benchmarks.faults"),
    "resume_bitwise": ("methods whose resumed run equals the uninterrupted one bit for bit, of 3", ">= 3", "benchmarks.faults"),
    "rank_difference": ("largest difference of a weight between 1, 2 and 4 ranks after 20 steps", "<= 0.000001", "benchmarks.ranks"),
    "precompute_identical": ("whether 10,000 samples of workers that come, go and die equal those of one, byte for byte", ">= 1", "benchmarks.precompute"),
    "soak_identical": ("whether an hour of kills and restarts ends in the weights of a quiet run", ">= 1", "benchmarks.soak"),
    "precompute_speedup": ("time of a plain loop over the diffusers pipeline over that of precompute", "", "benchmarks.precompute"),
    "load_ms_per_sample": ("milliseconds to load a sample", "", "benchmarks.precompute"),
    "curation_seconds_per_million": ("processor seconds of `fewstep prompts` a million rows", "", "benchmarks.curation"),
    "curation_recall": ("share of planted repeats, near repeats and leaks that are left out", "", "benchmarks.curation"),
    "curation_precision": ("share of rows left out as repeats or leaks that were planted", "", "benchmarks.curation"),
  },
  "watch": {
    "faults_found": ("planted faults whose check is the first to complain", ">= 29", "benchmarks.doctor"),
    "false_alarms": ("healthy pipelines of which the doctor complains", "<= 0", "benchmarks.doctor"),
    "doctor_seconds": ("seconds of the doctor's quick part on Shapes, the longest", "<= 60", "benchmarks.doctor"),
    "collapse_detection_steps": ("steps from the student's first move to the first alarm, of runs that collapse", "", "benchmarks.collapse run"),
    "rollback_kid_change": ("KID of a collapsing run that goes back minus that of the healthy run", "", "benchmarks.collapse run"),
    "probe_overhead": ("seconds of a watch's looks over seconds of training, Shapes", "<= 0.05", "benchmarks.collapse run"),
    "sweep_winner_confirmed_gain": ("KID of the recipe minus that of a sweep's winner, on training seeds that neither was chosen on", "", "benchmarks.sweep"),
    "naive_improvements_surviving": ("improvements of a sweep of one seed a trial that hold on five new seeds", "", "benchmarks.sweep"),
  },
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Records for what nothing has measured yet.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--why", default="there was no time for it yet")
    args = parser.parse_args()
    for area, planned in PLANNED.items():
        path = args.results / f"{area}.json"
        there = {c.id for c in claims.read(path)} if path.exists() else set()
        records = [
            claim(
                name, text, Estimate(math.nan, math.nan, math.nan, 0, 0), area=area,
                made=facts(f"python -m {command}", 1), n=0, goal=goal, note=args.why,
            )
            for name, (text, goal, command) in planned.items()
            if f"{area}.{name}" not in there
        ]  # fmt: skip
        print(f"wrote {claims.write(records, area, args.results)}: {len(records)} without a value")


if __name__ == "__main__":
    main()
