"""What helps the Shapes teacher to learn says the truth about its pictures."""

import math

import numpy as np
import torch

from fewstep.recipes.shapes_teacher.aids import PLAN, Plan, plans
from fewstep.worlds.shapes.prompts import draw_in_split, scene_for
from fewstep.worlds.shapes.render import render
from fewstep.worlds.shapes.scene import BACKGROUNDS, CROWDED, OUTLINES, Scene, Thing

SQUARE = Thing(0.25, 0.75, 0.15, 0.3, (1.0, 0.0, 0.5), OUTLINES["square"])


def test_the_plan_of_one_object() -> None:
    """An 8 x 8 grid: the token of row 5, column 2 has its centre at (2.5 / 8, 5.5 / 8)."""
    plan = plans([Scene(BACKGROUNDS["white"], (SQUARE,))], 8)[0].view(8, 8, PLAN)
    near = plan[5, 2]
    assert near[0] == 1
    square = [0, 1, 0, 0, math.cos(math.pi / 4), 0]
    colour, offset = [1, -1, 0], [(0.25 - 2.5 / 8) / 0.15, (0.75 - 5.5 / 8) / 0.15]
    turn = [math.cos(1.2), math.sin(1.2)]
    torch.testing.assert_close(near[1:], torch.tensor([*square, *colour, *offset, *turn]))
    assert not plan[0, 7].any()


def test_a_plan_covers_what_is_painted() -> None:
    """Wherever a token's centre pixel differs from the background there is an object."""
    rng = np.random.default_rng(0)
    cfg = CROWDED
    scenes = [scene_for(cfg, draw_in_split(cfg, "train", rng), rng) for _ in range(32)]
    images = torch.from_numpy(render(scenes, cfg.side))
    backgrounds = torch.tensor([s.background for s in scenes])[:, :, None, None]
    painted = (images - backgrounds).abs().amax(1)[:, 3::8, 3::8] > 0.2
    covered = plans(scenes, 8)[..., 0].view(-1, 8, 8) == 1
    assert painted.sum() > 100
    assert (painted & ~covered).sum() <= 0.02 * painted.sum()  # centre pixels are half a pixel off
    assert covered.sum() < 2.5 * painted.sum()  # circles around stars cover more


def test_the_plan_loss_is_zero_for_who_tells_the_truth() -> None:
    truth = plans([Scene(BACKGROUNDS["gray"], (SQUARE,))], 8)
    plan = Plan()
    plan.norm, plan.tell = torch.nn.Identity(), torch.nn.Identity()  # type: ignore[assignment]
    assert plan.loss(truth, truth) == 0
    wrong = truth.clone()
    wrong[..., 1] += 1  # judged on covered tokens alone, and there as one number of 13
    torch.testing.assert_close(plan.loss(wrong, truth), torch.tensor(1 / 13))
