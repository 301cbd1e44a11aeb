"""LPIPS v0.1 on trunks of our own: how different two pictures look (Zhang et al. 2018,
arXiv:1801.03924).

    u_l     = f_l / (|f_l| + 1e-10)       features of layer l, of length 1 over the channels
    d(a, b) = sum_l mean_hw sum_c w_lc (u_l(a) - u_l(b))^2                          (eq. 1)

The weights w_lc are those of the `lpips` package, all >= 0, so d is a squared Euclidean distance.
They come with the trunk in one safetensors file, made from two public ones:

    python -m fewstep.evaluate.lpips convert lpips-alex alexnet-owt-7be5be79.pth alex.pth
    python -m fewstep.evaluate.lpips convert lpips-vgg vgg16-397923af.pth vgg.pth

First torchvision's classifier, then the file under weights/v0.1 of the `lpips` package.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fewstep.errors import UserError
from fewstep.runs import user_path, write_atomic
from fewstep.shapes import Pixels

EPS = 1e-10
"""Keeps a position where every channel is 0 finite; as in the package."""


def alexnet() -> nn.Sequential:
    """AlexNet's convolutions under torchvision's numbers (Krizhevsky 2014, arXiv:1404.5997)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """VGG-16's convolutions under torchvision's numbers (Simonyan and Zisserman 2015)."""
    layers: list[nn.Module] = []
    width = 3
    for repeats, wider in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(repeats):
            layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU(inplace=True)]
            width = wider
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1])


@dataclass(frozen=True, kw_only=True)
class Trunk:
    build: Callable[[], nn.Sequential]
    taps: tuple[int, ...]
    """The ReLUs whose outputs are compared."""
    widths: tuple[int, ...]
    """Channels at the taps."""
    smallest: int
    """Side in pixels below which the last tap would be empty."""


TRUNKS = {
    "lpips-alex": Trunk(
        build=alexnet, taps=(1, 4, 7, 9, 11), widths=(64, 192, 384, 256, 256), smallest=31
    ),
    "lpips-vgg": Trunk(
        build=vgg16, taps=(3, 8, 15, 22, 29), widths=(64, 128, 256, 512, 512), smallest=16
    ),
}


def trunk_of(name: str) -> Trunk:
    if name not in TRUNKS:
        raise UserError(f"no LPIPS network is called {name!r}: choose one of {', '.join(TRUNKS)}")
    return TRUNKS[name]


class LPIPS(nn.Module):
    """A frozen network in eval mode; weights as `build` puts them in."""

    shift: Tensor
    scale: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.trunk = trunk_of(name)
        with torch.device("meta"):  # torch's own initialisation would draw from the global stream
            self.features = self.trunk.build()
            for i, width in enumerate(self.trunk.widths):
                self.register_buffer(f"lin{i}", torch.empty(width))
        # means and deviations of ImageNet, for pictures in [-1, 1]; constants of LPIPS v0.1
        for key, value in (("shift", (-0.030, -0.088, -0.188)), ("scale", (0.458, 0.448, 0.450))):
            self.register_buffer(key, torch.tensor(value).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @property
    def weights(self) -> list[Tensor]:
        """w_l of each tap, (c,)."""
        return [self.get_buffer(f"lin{i}") for i in range(len(self.trunk.widths))]

    def maps(self, images: Pixels) -> Iterator[Float[Tensor, "n c h w"]]:
        """f_l of each tap in turn; no more than two layers are in memory at once.

        Raises ValueError for anything but finite pictures in [0, 1] of at least `trunk.smallest`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (n, 3, height, width), got {tuple(images.shape)}")
        if min(images.shape[2:]) < self.trunk.smallest:
            raise ValueError(
                f"{self.name} needs images of at least {self.trunk.smallest} pixels a side, "
                f"got {images.shape[2]} x {images.shape[3]}: enlarge them first"
            )
        low, high = images.aminmax()
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise ValueError("images must be finite and in [0, 1]: clamp or rescale them first")
        x = (2 * images.to(self.scale) - 1 - self.shift) / self.scale
        for at, layer in enumerate(self.features):
            x = layer(x)
            if at in self.trunk.taps:
                yield x

    def forward(self, a: Pixels, b: Pixels) -> Tensor:
        """(n,): d(a[i], b[i]); for all pairs of a set use `gram.pairwise_lpips`."""
        if a.shape != b.shape:
            raise ValueError(f"pairs must be alike in shape, got {a.shape} and {b.shape}")
        total = torch.zeros(len(a)).to(self.scale)
        for f_a, f_b, w in zip(self.maps(a), self.maps(b), self.weights, strict=True):
            square = (unit(f_a) - unit(f_b)) ** 2
            total = total + torch.einsum("nchw,c->nhw", square, w).mean((1, 2))
        return total


def unit(features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Of length 1 over the channels at every position, or 0 where all channels are."""
    return features / ((features**2).sum(1, keepdim=True).sqrt() + EPS)


def build(name: str, state: Mapping[str, Tensor]) -> LPIPS:
    """The network with `features.N.weight`, `features.N.bias` and `lin0` to `lin4` (each (c,)).

    Raises ValueError for a key too many or too few, a wrong shape or a weight below 0.
    """
    net = LPIPS(name)
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    if missing := sorted(set(wanted) - set(state)):
        raise ValueError(f"{name} needs {missing[0]!r}, which is missing ({len(missing)} in all)")
    if unknown := sorted(set(state) - set(wanted)):
        raise ValueError(f"{name} has no weight called {unknown[0]!r} ({len(unknown)} in all)")
    for key, shape in wanted.items():
        if tuple(state[key].shape) != shape:
            raise ValueError(
                f"{name} needs {key!r} of shape {shape}, got {tuple(state[key].shape)}"
            )
        if key.startswith("lin") and not (state[key] >= 0).all():
            raise ValueError(f"{key!r} must not be below 0: LPIPS v0.1 is a sum of squares")
    net.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return net.eval().requires_grad_(False)


def weights_folder() -> Path:
    """Where weights are looked for: $FEWSTEP_WEIGHTS, or ~/.cache/fewstep/weights."""
    return user_path(os.environ.get("FEWSTEP_WEIGHTS") or "~/.cache/fewstep/weights")


def load(name: str, folder: Path | None = None) -> LPIPS:
    """The network from `<name>.safetensors` in the folder; UserError if that cannot be used."""
    trunk_of(name)
    path = (folder or weights_folder()) / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(
            f"no weights at {path}: make them with python -m fewstep.evaluate.lpips convert "
            f"{name} TRUNK.pth LINEAR.pth, or set FEWSTEP_WEIGHTS to the folder that holds them"
        )
    try:
        return build(name, load_file(path))
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{path} cannot be used: {error}; convert it again") from error


def read(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file; never runs code from it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be read as a file of weights: {reason}") from error
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise UserError(f"{path} must hold a state dict, a mapping of names to tensors")
    return dict(found)


def convert(name: str, trunk: Path, linear: Path, folder: Path) -> Path:
    """Write `<name>.safetensors` from torchvision's file and the `lpips` package's."""
    state = {key: v for key, v in read(trunk).items() if not key.startswith("classifier.")}
    for key, value in read(linear).items():
        short = key.removesuffix(".model.1.weight")
        if short == key or value.ndim != 4 or value.shape[:1] + value.shape[2:] != (1, 1, 1):
            raise UserError(
                f"{linear} has {key!r} of shape {tuple(value.shape)}, but the files of the lpips "
                "package hold lin0.model.1.weight and so on, of shape (1, c, 1, 1)"
            )
        state[short] = value[0, :, 0, 0]
    try:
        net = build(name, state)
    except ValueError as error:
        raise UserError(f"{trunk} and {linear} do not make {name}: {error}") from error
    sources = {
        part: f"{path.name} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for part, path in (("trunk", trunk), ("linear", linear))
    }
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{name}.safetensors"
    write_atomic(out, save({k: v.contiguous() for k, v in net.state_dict().items()}, sources))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fewstep.evaluate.lpips")
    verb = parser.add_subparsers(required=True).add_parser("convert", help="make a weights file")
    verb.add_argument("name", help=" or ".join(TRUNKS))
    verb.add_argument("trunk", type=Path, help="torchvision's alexnet or vgg16 state dict")
    verb.add_argument("linear", type=Path, help="alex.pth or vgg.pth of the lpips package, v0.1")
    verb.add_argument("--out", type=Path, help="folder; by default where weights are looked for")
    args = parser.parse_args(argv)
    try:
        print(f"wrote {convert(args.name, args.trunk, args.linear, args.out or weights_folder())}")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
