"""The Shapes teacher from nothing: `python -m fewstep.recipes.shapes_teacher OUT`.

Stage 1 trains the autoencoder, stages 2 and 3 everything else; OUT/model is then the directory that
the package ships as `fewstep/worlds/shapes/model`. The same command goes on where it was stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fewstep.families.zimage import PICTURE_ENCODER, ZImage
from fewstep.recipes.shapes_teacher.flow import STAGES, STATE, train_flow
from fewstep.recipes.shapes_teacher.vae import VaeConfig, train_vae


def package(trained: Path, out: Path) -> None:
    """The trained model as it is shipped: the vision tower in half precision, to stay small."""
    family = ZImage.load(trained)
    assert family.pictures is not None
    family.save(out, family.backbone)
    family.pictures.save(out / PICTURE_ENCODER, torch.float16)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m fewstep.recipes.shapes_teacher OUT")
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    if not (out / "vae" / "config.json").is_file():
        train_vae(VaeConfig(), out / "vae")
    start: Path | None = None
    for name, cfg in STAGES.items():
        last = out / name / f"model-{cfg.steps}"
        if not last.is_dir():
            train_flow(out / "vae", out / name, cfg, start)
        start = out / name / STATE
    package(last, out / "model")
    print(f"wrote {out / 'model'}")


if __name__ == "__main__":
    main()
