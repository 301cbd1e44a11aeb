"""Inception features as FID and KID have used them: the weights and the code of torch-fidelity."""

from __future__ import annotations

from typing import Any

import torch

from fewstep.errors import UserError
from fewstep.evaluate.features import Features
from fewstep.evaluate.generate import fingerprint
from fewstep.evaluate.grids import to_bytes
from fewstep.shapes import Pixels

LAYER = "2048"
BATCH = 32


class Inception:
    """The pool3 features, 2048 wide, of eight-bit pictures."""

    name = "inception"

    def __init__(self, source: str | None, device: torch.device) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import (  # pyright: ignore
                FeatureExtractorInceptionV3,
            )
        except Exception as error:  # a torchvision that does not fit raises RuntimeError
            raise UserError(
                f"the extractor inception needs torch-fidelity, but importing it fails ({error}); "
                "install it with `pip install 'fewstep[eval]'`, with a torchvision that fits torch"
            ) from None
        try:
            self.net: Any = FeatureExtractorInceptionV3(
                "inception", [LAYER], feature_extractor_weights_path=source
            )
        except Exception as error:
            raise UserError(
                f"Inception's weights cannot be loaded ({error}); give their file behind a colon: "
                "inception:FILE"
            ) from None
        self.net = self.net.to(device).eval().requires_grad_(False)
        self.device, self.fingerprint = device, fingerprint(self.net)

    @torch.no_grad()
    def __call__(self, images: Pixels) -> Features:
        bytes_ = torch.from_numpy(to_bytes(images)).permute(0, 3, 1, 2)
        parts = [self.net(part.to(self.device))[0] for part in bytes_.split(BATCH)]
        return torch.cat(parts).float().cpu().numpy()
