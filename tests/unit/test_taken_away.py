"""Files that disappear while a run reads them. Samples are read in the training process itself, so
there is no loader to die: what can be lost is what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.test_picture_batches import SQUARE, samples_in
from tests.unit.test_precompute import CFG, PROMPTS, ToyFamily, made

from fewstep.data.batches import Batches
from fewstep.data.picture_samples import PictureBatches
from fewstep.errors import UserError


@pytest.mark.fault(20)
def test_an_open_shard_serves_to_the_end_and_is_made_again_by_the_next_run(tmp_path: Path) -> None:
    samples = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    batches = Batches(samples, batch_size=3, seed=0)
    before = [batch.x0 for step in range(4) for batch in batches(step)]
    for path in samples.directory.glob("shard_*"):
        path.unlink()
    after = [batch.x0 for step in range(4) for batch in batches(step)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    again = Batches(made(CFG, ToyFamily(), PROMPTS, tmp_path), batch_size=3, seed=0)
    anew = [batch.x0 for step in range(4) for batch in again(step)]
    assert all(torch.equal(a, b) for a, b in zip(before, anew, strict=True))


@pytest.mark.fault(20)
def test_a_picture_of_the_cache_that_disappears_is_one_sentence(tmp_path: Path) -> None:
    samples = samples_in(tmp_path, [(SQUARE, [3], 1), (SQUARE, [5], 1)])
    batches = PictureBatches(samples, batch_size=2, seed=0)
    batches(0)
    samples.cache.path(samples.rows[1].latent.key).unlink()
    with pytest.raises(UserError, match="was removed while it was in use; run the same command"):
        batches(1)
