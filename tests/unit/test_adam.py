"""AdamW on weights and moments in few bytes, against torch's own in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor, nn

from fewstep.train.adam import LOW, MomentsName, WeightsName
from fewstep.train.halves import joined
from fewstep.train.optim import Optim, OptimConfig

SHAPE = (40, 33)
LR = 5e-6
"""Of a run on a large model: a full step is far less than half a bfloat16 of a weight of 0.02."""


def weight() -> Tensor:
    drawn = 0.02 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return drawn.bfloat16().float()


def gradients(n: int) -> Iterator[Tensor]:
    """A lasting direction in noise as large, in bfloat16 as a backward pass leaves them."""
    draws = torch.Generator().manual_seed(1)
    lasting = torch.randn(SHAPE, generator=draws)
    for _ in range(n):
        yield (1e-3 * (lasting + torch.randn(SHAPE, generator=draws))).bfloat16()


def optim_of(p: Tensor, **change: object) -> tuple[nn.ParameterDict, Optim]:
    module = nn.ParameterDict({"w": nn.Parameter(p)})
    values: dict[str, object] = {"lr": LR, "clip": 0.02, "weight_decay": 0.01, **change}
    return module, Optim(OptimConfig(**values), module, total=99, seed=7)  # type: ignore[arg-type]


def trained(n: int, **change: object) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The weight after n updates and what is kept beside it."""
    low = change.get("weights", "float32") != "float32"
    module, optim = optim_of(weight().bfloat16() if low else weight(), **change)
    for gradient in gradients(n):
        module["w"].grad = gradient if low else gradient.float()
        optim.step(optim.norm())
        optim.zero_grad()
    return module["w"].detach(), optim.adam.state["w"]


def by_torch(n: int, betas: tuple[float, float]) -> Tensor:
    p = nn.Parameter(weight())
    adam = torch.optim.AdamW([p], lr=LR, betas=betas, weight_decay=0.01)
    for gradient in gradients(n):
        p.grad = gradient.float()
        nn.utils.clip_grad_norm_([p], 0.02)
        adam.step()
    return p.detach()


@pytest.mark.parametrize("betas", [(0.0, 0.99), (0.9, 0.99)])
def test_exact_weights_are_torchs_in_float32_bit_for_bit(betas: tuple[float, float]) -> None:
    wanted = by_torch(50, betas)
    plain, _ = trained(50, betas=betas)
    high, kept = trained(50, betas=betas, weights="exact")
    assert torch.equal(plain, wanted)
    assert torch.equal(joined(high, kept[LOW]), wanted)
    assert high.nbytes + kept[LOW].nbytes == wanted.nbytes


@pytest.mark.parametrize("betas", [(0.0, 0.99), (0.9, 0.99)])
@pytest.mark.parametrize("moments", ["float32", "8bit"])
@pytest.mark.parametrize("weights", ["float32", "exact", "stochastic"])
def test_what_waits_in_main_memory_leads_to_the_same_weights(
    weights: WeightsName, moments: MomentsName, betas: tuple[float, float]
) -> None:
    here, kept = trained(20, betas=betas, weights=weights, moments=moments)
    there, waited = trained(20, betas=betas, weights=weights, moments=moments, offload=True)
    assert torch.equal(here, there) and kept.keys() == waited.keys()
    assert all(torch.equal(kept[name], waited[name]) for name in kept)


def test_what_waits_is_another_tensor_than_what_is_updated() -> None:
    """So it is on a GPU. Its room stays the same, which a GPU may still be writing to."""
    module, optim = optim_of(weight(), offload=True)
    rooms = []
    for gradient in gradients(2):
        module["w"].grad = gradient.float()
        optim.step(optim.norm())
        rooms.append(optim.adam.state["w"]["exp_avg_sq"])
    assert rooms[0] is rooms[1]
    fetched = optim.adam.kept("w", "exp_avg_sq")
    assert torch.equal(fetched, rooms[0]) and fetched.data_ptr() != rooms[0].data_ptr()


def test_what_is_trained_in_bfloat16_alone_hardly_moves() -> None:
    """The trap that exact and stochastic weights are there for (seeds.md, section 2)."""
    wanted, start, p = by_torch(200, (0.0, 0.99)) - weight(), weight(), weight().bfloat16()
    naive = nn.Parameter(p)
    adam = torch.optim.AdamW([naive], lr=LR, betas=(0.0, 0.99), weight_decay=0.01)
    for gradient in gradients(200):
        naive.grad = gradient
        adam.step()

    def along(after: Tensor) -> float:
        return float(((after.float() - start) * wanted).sum() / wanted.square().sum())

    high, kept = trained(200, weights="exact")
    rounded, _ = trained(200, weights="stochastic")
    assert along(joined(high, kept[LOW])) == pytest.approx(1, abs=1e-6)
    assert along(naive.detach()) < 0.3
    assert along(rounded) == pytest.approx(1, abs=0.1)
    # in every weight and not in the mean of all alone: each update is rounded by draws of its own
    cosine = torch.cosine_similarity((rounded.float() - start).flatten(), wanted.flatten(), dim=0)
    assert float(cosine) > 0.85


@pytest.mark.parametrize("betas", [(0.0, 0.99), (0.9, 0.99)])
@pytest.mark.parametrize("weights", ["float32", "exact"])
def test_moments_in_eight_bits_lead_nearly_where_whole_ones_do(
    weights: WeightsName, betas: tuple[float, float]
) -> None:
    after, kept = trained(100, betas=betas, weights=weights, moments="8bit")
    after = after if weights == "float32" else joined(after, kept[LOW])
    wanted = by_torch(100, betas)
    moved = wanted - weight()
    assert float((after - wanted).norm() / moved.norm()) < 0.05
    moments = 1 if betas[0] == 0 else 2
    numbers = weight().numel()
    held = sum(t.nbytes for name, t in kept.items() if name.startswith("exp_avg"))
    assert held <= moments * (numbers + 4 * (numbers // 256 + 1))


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize(
    ("weights", "moments"),
    [("float32", "float32"), ("exact", "8bit"), ("exact", "float32"), ("stochastic", "8bit")],
)
def test_an_optimizer_goes_on_where_it_was(
    weights: WeightsName, moments: MomentsName, *, offload: bool
) -> None:
    def fresh(p: Tensor) -> tuple[nn.ParameterDict, Optim]:
        kept = {"weights": weights, "moments": moments, "offload": offload}
        return optim_of(p, betas=(0.9, 0.99), **kept)

    first, one = fresh(weight() if weights == "float32" else weight().bfloat16())
    second, two = None, None
    for i, gradient in enumerate(gradients(20)):
        if i == 10:
            second, two = fresh(first["w"].detach().clone())
            tensors, facts = one.state()
            two.load(tensors, facts)
            assert all(two.blank(k).shape == t.shape for k, t in tensors.items())
            assert all(two.blank(k).dtype == t.dtype for k, t in tensors.items())
        for module, optim in [(first, one), (second, two)]:
            if module is not None and optim is not None:
                module["w"].grad = gradient.to(first["w"].dtype)
                optim.step(optim.norm())
    assert second is not None and two is not None
    assert torch.equal(first["w"], second["w"])
    (left, _), (right, _) = one.state(), two.state()
    assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("moments", ["float32", "8bit"])
@pytest.mark.parametrize("weights", ["exact", "stochastic"])
@pytest.mark.parametrize("offload", [False, True])
def test_an_update_without_numbers_keeps_the_same_shapes(
    weights: WeightsName, moments: MomentsName, *, offload: bool
) -> None:
    """On the meta device, for plans."""
    kept_as = {"weights": weights, "moments": moments, "offload": offload}
    module, optim = optim_of(weight().bfloat16().to("meta"), **kept_as)
    for _ in range(2):
        module["w"].grad = torch.zeros_like(module["w"])
        optim.step(optim.norm())
    _, kept = trained(1, weights=weights, moments=moments)
    found = optim.adam.state["w"]
    assert {k: (t.shape, t.dtype) for k, t in found.items()} == {
        k: (t.shape, t.dtype) for k, t in kept.items()
    }


def test_the_norm_of_bfloat16_gradients_is_told_in_float32() -> None:
    module, optim = optim_of(weight().bfloat16(), weights="exact")
    [gradient] = gradients(1)
    module["w"].grad = gradient
    assert float(optim.norm()) == pytest.approx(float(gradient.double().norm()), rel=1e-6)


def test_weights_and_moments_that_are_kept_otherwise_are_refused() -> None:
    with pytest.raises(ValueError, match="'w' is float32, and exact weights are bfloat16 ones"):
        optim_of(weight(), weights="exact")
    with pytest.raises(ValueError, match=r"'w' is bfloat16, .* up to 0\.78% of a weight apart"):
        optim_of(weight().bfloat16())
    _, kept = trained(1, weights="exact")
    _, other = optim_of(weight().bfloat16(), weights="exact", moments="8bit")
    with pytest.raises(ValueError, match="need exp_avg_sq_codes, exp_avg_sq_scales, low, step"):
        other.load({f"w/{k}": t for k, t in kept.items()}, {"updates": 1})


def test_a_first_moment_that_was_kept_before_is_left_out() -> None:
    """Checkpoints of before have one of decay 0."""
    _, optim = optim_of(weight())
    _, kept = trained(3)
    old = {**{f"w/{k}": t for k, t in kept.items()}, "w/exp_avg": torch.ones(SHAPE)}
    optim.load(old, {"updates": 3})
    assert optim.adam.state["w"].keys() == {"exp_avg_sq", "step"} and optim.updates == 3
    assert torch.equal(optim.adam.state["w"]["exp_avg_sq"], kept["exp_avg_sq"])
