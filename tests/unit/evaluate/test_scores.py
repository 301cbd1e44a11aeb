"""Scores of a picture beside its prompt, on a small CLIP with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.evaluate.test_features import CPU, IMAGES, PROMPTS
from tests.unit.evaluate.test_hub import small_clip

from fewstep.errors import UserError
from fewstep.evaluate.hub import CLIP
from fewstep.evaluate.measures import Instruments, in_memory, measure
from fewstep.evaluate.metrics import evaluate
from fewstep.evaluate.scores import HEAD, HEAD_LAYERS, aesthetic_head, make_scores
from fewstep.evaluate.statistics import prompt_weights
from fewstep.worlds.shapes.world import Shapes


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"))


def test_clip_and_pickscore_are_scaled_cosines(clip: Path) -> None:
    found = make_scores([f"clip:{clip}", f"pickscore:{clip}"], CPU)
    model = CLIP(str(clip), CPU)
    own, texts = model(IMAGES), model.text(PROMPTS)
    cosine = (own * texts).sum(1)
    order = [3, 0, 0, 5, 1, 2]
    asked = [PROMPTS[i] for i in order]
    np.testing.assert_allclose(
        found["clip_score"](IMAGES[order], asked), 100 * cosine[order].clip(0), atol=1e-4
    )
    scale = float(model.loaded.model.logit_scale.exp())
    np.testing.assert_allclose(
        found["preference"](IMAGES, PROMPTS), scale * cosine, rtol=1e-4, atol=1e-5
    )
    assert np.ptp(cosine) > 1e-3


def head_file(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"layers.{layer}.{kind}": torch.randn(shape, generator=generator) / 10
        for layer, a, b in zip(HEAD_LAYERS, HEAD, HEAD[1:], strict=False)
        for kind, shape in (("weight", (b, a)), ("bias", (b,)))
    }
    save_file(state, folder / "head.safetensors")
    return folder / "head.safetensors"


def test_the_aesthetic_head_is_that_of_its_file(tmp_path: Path) -> None:
    path = head_file(tmp_path)
    features = torch.randn(4, 768, generator=torch.Generator().manual_seed(1))
    wanted = features
    for layer in HEAD_LAYERS:
        state = load_file(path)
        wanted = wanted @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
    torch.testing.assert_close(aesthetic_head(str(path))(features), wanted)


def test_another_head_is_refused(tmp_path: Path) -> None:
    path = head_file(tmp_path)
    state = load_file(path)
    save_file({k: v for k, v in state.items() if k != "layers.7.bias"}, path)
    with pytest.raises(UserError, match="is not the aesthetic head"):
        aesthetic_head(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        aesthetic_head(str(tmp_path / "none.safetensors"))


def test_a_head_on_another_clip_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reads 768 features, the CLIP .*clip.* gives 8; name the"):
        make_scores([f"aesthetic:{head_file(tmp_path)},{clip}"], CPU)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["taste"], "there is no score 'taste'; there are clip, pickscore, aesthetic"),
        (["aesthetic"], "needs the file of its head behind a colon"),
        (["clip:/nowhere/at/all"], "cannot be loaded"),
    ],
)
def test_mistakes(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_scores(texts, CPU)


def test_scores_are_means_with_intervals(clip: Path) -> None:
    world = Shapes()
    prompts, seeds = world.prompts("test", 8), (0, 1)
    images = world.truth([p for p in prompts for _ in seeds], [*seeds] * 8)
    instruments = Instruments(
        features={"pixels": lambda x: x[:, :, ::16, ::16].flatten(1).numpy()},
        scores=make_scores([f"pickscore:{clip}"], CPU),
    )
    found = measure(in_memory(images, prompts, seeds), None, instruments)
    score = evaluate(found, found, prompt_weights(8, np.random.default_rng(0)))["preference"]
    assert score.value == pytest.approx(found.scores["preference"].mean())
    assert score.low < score.value < score.high
