"""Our LPIPS is that of the `lpips` package: the same weights give the same distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.lpips_speed import near, pictures, random_net
from torch import Tensor, nn

from fewstep.evaluate import lpips as ours
from fewstep.evaluate.gram import pairwise_lpips

package = pytest.importorskip("lpips", reason="the oracle is the lpips package, not installed here")

SIZES = {"lpips-alex": ((31, 31), (64, 64), (96, 130)), "lpips-vgg": ((16, 16), (48, 64), (64, 64))}


def oracle(name: str, folder: Path) -> tuple[nn.Module, ours.LPIPS]:
    """The package's network with its own linear weights on a random trunk; ours, converted."""
    short = name.removeprefix("lpips-")
    weights = Path(package.__file__).parent / "weights" / "v0.1" / f"{short}.pth"
    net = package.LPIPS(net=short, pnet_rand=True, verbose=False)
    state: dict[str, Tensor] = {}
    for key, value in net.net.state_dict().items():
        at = key.split(".", 1)[1]  # slice2.3.weight is features.3.weight
        state[f"features.{at}"] = value.clone()
    torch.save(state, folder / "trunk.pth")
    ours.convert(name, folder / "trunk.pth", weights, folder)
    return net, ours.load(name, folder)


def of_package(net: nn.Module, a: Tensor, b: Tensor) -> np.ndarray:
    with torch.no_grad():
        return net(a, b, normalize=True).flatten().numpy()


@pytest.mark.parametrize("name", ours.TRUNKS)
def test_equals_the_package_with_its_linear_weights(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)  # the package draws its trunk from the global generator
    theirs, net = oracle(name, tmp_path)
    for height, width in SIZES[name]:
        a, b = torch.rand(4, 3, height, width), torch.rand(4, 3, height, width)
        np.testing.assert_allclose(net(a, b).numpy(), of_package(theirs, a, b), rtol=1e-6)
        for size in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
            close = near(a[:1], 4, size)
            pair = a[:1].expand(4, -1, -1, -1)
            right = of_package(theirs, pair, close)
            np.testing.assert_allclose(net(pair, close).numpy(), right, rtol=1e-6)
        assert net(a, a).tolist() == of_package(theirs, a, a).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ours.TRUNKS)
def test_equals_the_package_with_random_weights(name: str) -> None:
    net = random_net(name)
    theirs = package.LPIPS(
        pretrained=False, pnet_rand=True, net=name.removeprefix("lpips-"), verbose=False
    )
    state = net.state_dict()
    for key, value in theirs.net.named_parameters():
        value.data.copy_(state[f"features.{key.split('.', 1)[1]}"])
    for i, layer in enumerate(theirs.lins):
        layer.model[1].weight.data.copy_(state[f"lin{i}"][None, :, None, None])
    images = pictures(6, 0)
    first, second = np.triu_indices(6, 1)
    right = of_package(theirs, images[first], images[second])
    np.testing.assert_allclose(net(images[first], images[second]).numpy(), right, rtol=1e-6)
    np.testing.assert_allclose(pairwise_lpips(net, images)[first, second], right, rtol=1e-6)
    double, net64 = theirs.double(), net.double()
    close = near(images[:1].double(), 6, 1e-5)  # collapsed: only float64 resolves six digits
    right = of_package(double, close[first], close[second])
    np.testing.assert_allclose(pairwise_lpips(net64, close)[first, second], right, rtol=1e-6)
