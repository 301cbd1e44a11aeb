"""LPIPS against its definition, written down again in float64; and its files of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks.lpips_speed import near, pictures, random_net
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.errors import UserError
from fewstep.evaluate import lpips

NETS = {name: random_net(name) for name in lpips.TRUNKS}
VGG = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


def definition(name: str, w: dict[str, Tensor], a: Tensor, b: Tensor) -> float:
    """d(a, b) of two pictures (3, h, w), float64, from the paper and torchvision's layouts."""

    def conv(x: Tensor, at: int, stride: int, padding: int) -> Tensor:
        weight, bias = (w[f"features.{at}.{part}"].double() for part in ("weight", "bias"))
        return F.conv2d(x, weight, bias, stride, padding).clamp(min=0)

    def taps(image: Tensor) -> list[Tensor]:
        mean = torch.tensor([-0.030, -0.088, -0.188]).double().view(3, 1, 1)
        std = torch.tensor([0.458, 0.448, 0.450]).double().view(3, 1, 1)
        x = ((2 * image.double() - 1 - mean) / std)[None]
        if name == "lpips-alex":
            one = conv(x, 0, 4, 2)
            two = conv(F.max_pool2d(one, 3, 2), 3, 1, 2)
            three = conv(F.max_pool2d(two, 3, 2), 6, 1, 1)
            four = conv(three, 8, 1, 1)
            return [one, two, three, four, conv(four, 10, 1, 1)]
        found = []
        for block, numbers in enumerate(VGG):
            x = F.max_pool2d(x, 2, 2) if block else x
            for at in numbers:
                x = conv(x, at, 1, 1)
            found.append(x)
        return found

    total = 0.0
    for i, (p, q) in enumerate(zip(taps(a), taps(b), strict=True)):
        lengths = [f.square().sum(1).sqrt() + 1e-10 for f in (p, q)]
        for c in range(p.shape[1]):
            square = (p[:, c] / lengths[0] - q[:, c] / lengths[1]) ** 2
            total += float(w[f"lin{i}"][c]) * float(square.mean())
    return total


@pytest.mark.parametrize("name", lpips.TRUNKS)
@pytest.mark.parametrize("size", [(31, 40), (48, 33)])
def test_equals_the_definition(name: str, size: tuple[int, int]) -> None:
    net, (height, width) = NETS[name], size
    a, b = (pictures(2, seed)[:, :, :height, :width] for seed in (0, 1))
    found = net(a, b)
    state = net.state_dict()
    expected = [definition(name, state, p, q) for p, q in zip(a, b, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    double = random_net(name).double()
    close = near(a[:1], 2, 1e-4)  # what float32 cannot resolve to six digits
    expected = definition(name, state, close[0].double(), close[1].double())
    assert double(close[:1], close[1:]).item() == pytest.approx(expected, rel=1e-9, abs=0)
    assert 0 < expected < 1e-5


def test_a_picture_equals_itself_and_the_order_does_not_matter() -> None:
    a, b = pictures(2, 0), pictures(2, 1)
    for net in NETS.values():
        assert net(a, a).tolist() == [0, 0]
        assert net(a, b).tolist() == net(b, a).tolist()


def test_the_network_is_frozen_and_lets_gradients_through() -> None:
    net = NETS["lpips-alex"]
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    a = pictures(1, 0).requires_grad_()
    net(a, pictures(1, 1)).sum().backward()
    assert a.grad is not None and a.grad.abs().sum() > 0


@pytest.mark.parametrize("name", lpips.TRUNKS)
def test_the_smallest_pictures_work_and_smaller_ones_are_refused(name: str) -> None:
    side = lpips.TRUNKS[name].smallest
    a, b = torch.rand(1, 3, side, side), torch.rand(1, 3, side, side)
    assert NETS[name](a, b).item() > 0
    with pytest.raises(RuntimeError):  # what the limit stands for
        x = torch.rand(1, 3, side - 1, side - 1)
        NETS[name].features(x)
    with pytest.raises(ValueError, match=f"at least {side} pixels a side, got {side} x {side - 1}"):
        NETS[name](a[..., :-1], b[..., :-1])


def test_pictures_of_another_range_or_shape_are_refused() -> None:
    net, a = NETS["lpips-alex"], pictures(1, 0)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        net(2 * a - 1, a)
    with pytest.raises(ValueError, match="finite"):
        net(a * torch.nan, a)
    with pytest.raises(ValueError, match="alike in shape"):
        net(a, a[..., :40])
    with pytest.raises(ValueError, match=r"\(n, 3, height, width\), got \(1, 1, 64, 64\)"):
        net(a[:, :1], a[:, :1])


def public_files(name: str, folder: Path) -> tuple[Path, Path]:
    """Files with the keys and shapes of torchvision and the lpips package."""
    state = NETS[name].state_dict()
    trunk = {key: v for key, v in state.items() if not key.startswith("lin")}
    lins = (key for key in state if key.startswith("lin"))
    linear = {f"{key}.model.1.weight": state[key][None, :, None, None] for key in lins}
    torch.save(trunk | {"classifier.1.weight": torch.zeros(2, 2)}, folder / "trunk.pth")
    torch.save(linear, folder / "linear.pth")
    return folder / "trunk.pth", folder / "linear.pth"


@pytest.mark.parametrize("name", lpips.TRUNKS)
def test_converted_weights_are_the_public_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSTEP_WEIGHTS", str(tmp_path / "weights"))
    trunk, linear = public_files(name, tmp_path)
    assert lpips.main(["convert", name, str(trunk), str(linear)]) == 0
    found, right = lpips.load(name).state_dict(), NETS[name].state_dict()
    assert set(found) == set(right)
    assert all(torch.equal(found[key], right[key]) for key in right)
    a, b = pictures(2, 0), pictures(2, 1)
    assert torch.equal(lpips.load(name)(a, b), NETS[name](a, b))


def test_a_missing_file_says_which_where_and_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWSTEP_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError) as caught:
        lpips.load("lpips-vgg")
    wanted = tmp_path / "lpips-vgg.safetensors"
    for said in (str(wanted), "lpips convert lpips-vgg", "FEWSTEP_WEIGHTS"):
        assert said in str(caught.value)
    with pytest.raises(UserError, match="'lpips-vgg19': choose one of lpips-alex, lpips-vgg"):
        lpips.load("lpips-vgg19")
    monkeypatch.delenv("FEWSTEP_WEIGHTS")
    assert lpips.weights_folder() == Path.home() / ".cache/fewstep/weights"


def test_wrong_files_of_weights_are_one_sentence(tmp_path: Path) -> None:
    right = dict(NETS["lpips-alex"].state_dict())
    path = tmp_path / "lpips-alex.safetensors"
    for wrong, said in (
        ({k: v for k, v in right.items() if k != "lin2"}, "needs 'lin2', which is missing"),
        (right | {"lin5": torch.ones(3)}, "no weight called 'lin5'"),
        (right | {"lin0": torch.ones(3)}, r"'lin0' of shape \(64,\), got \(3,\)"),
        (right | {"lin0": -torch.ones(64)}, "'lin0' must not be below 0"),
    ):
        save_file(wrong, path)
        with pytest.raises(UserError, match=f"{path} cannot be used: .*{said}"):
            lpips.load("lpips-alex", tmp_path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be used"):
        lpips.load("lpips-alex", tmp_path)


def test_a_failed_conversion_leaves_the_old_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk, linear = public_files("lpips-alex", tmp_path)
    out = ["--out", str(tmp_path)]
    assert lpips.main(["convert", "lpips-alex", str(trunk), str(linear), *out]) == 0
    before = load_file(tmp_path / "lpips-alex.safetensors")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("code from a file of weights ran",)

    torch.save({"lin0": Evil()}, tmp_path / "evil.pth")
    for name, first, second, said in (
        ("lpips-vgg", trunk, linear, "do not make lpips-vgg"),
        ("lpips-alex", linear, linear, "which is missing"),
        ("lpips-alex", trunk, trunk, "hold lin0.model.1.weight"),
        ("lpips-alex", tmp_path / "none.pth", linear, "none.pth cannot be read"),
        ("lpips-alex", tmp_path / "evil.pth", linear, "evil.pth cannot be read"),
        ("squeeze", trunk, linear, "no LPIPS network is called 'squeeze'"),
    ):
        assert lpips.main(["convert", name, str(first), str(second), *out]) == 2
        told = capsys.readouterr()
        assert said in told.err and told.err.count("\n") == 1 and "ran" not in told.out
    after = load_file(tmp_path / "lpips-alex.safetensors")
    assert all(np.array_equal(before[key], after[key]) for key in before)
