"""Z-Image against the real diffusers pipeline, on a tiny real model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from tests.tiny import tiny_pictures, tiny_zimage
from torch import Tensor, nn

from fewstep.families.zimage import ZImage
from fewstep.flow import sample
from fewstep.flow.guidance import guided
from fewstep.nets.share import share

PROMPTS = ["a red circle and a blue square on a white background", "two green stars"]


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def noise(n: int, seed: int = 0, side: int = 16) -> Tensor:
    return torch.randn(n, 8, side, side, generator=torch.Generator().manual_seed(seed))


def by_pipeline(family: ZImage, x: Tensor, steps: int, g: float) -> Tensor:
    side = x.shape[-1] * 4
    return family.pipeline(
        list(PROMPTS), height=side, width=side, num_inference_steps=steps, guidance_scale=g,
        latents=x.clone(), output_type="latent",
    ).images  # fmt: skip


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_euler_equals_the_pipeline(family: ZImage, steps: int) -> None:
    x = noise(2)
    cond = family.encode_text(PROMPTS)
    with torch.no_grad():
        ours = sample.euler(
            lambda x, s: family.backbone(x, s, cond), x, family.sigmas(steps)
        )  # fmt: skip
    theirs = by_pipeline(family, x, steps, 0.0)
    assert (theirs - x).abs().max() > 0.1, "a model that does nothing proves nothing"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_guidance_w_is_the_pipelines_g_plus_one(family: ZImage) -> None:
    x = noise(2)
    model = guided(family.backbone, family.encode_text(PROMPTS), family.encode_text(["", ""]), 4.0)
    with torch.no_grad():
        ours = sample.euler(model, x, family.sigmas(4))
    torch.testing.assert_close(ours, by_pipeline(family, x, 4, 3.0), atol=1e-4, rtol=1e-4)
    assert family.pipeline_guidance(4.0) == 3.0


def test_neglecting_the_convention_is_far_off(family: ZImage) -> None:
    """Trap 1 and 2: time and sign both matter for this model, so the tests above can fail."""
    x, sigma, cond = noise(2), torch.tensor([0.9, 0.3]), family.encode_text(PROMPTS)
    with torch.no_grad():
        v = family.backbone(x, sigma, cond)
        raw = family.pipeline.transformer(
            list(x.unsqueeze(2)), sigma, list(cond.tokens), return_dict=False
        )[0]
        other_time = family.backbone(x, 1 - sigma, cond)
    assert (torch.stack(raw).squeeze(2) - v).abs().max() > 0.1
    assert (other_time - v).abs().max() > 1e-3


def test_encode_text_equals_the_pipeline_and_leaves_the_prompts_alone(family: ZImage) -> None:
    prompts = [*PROMPTS, ""]
    ours = family.encode_text(prompts)
    assert prompts == [*PROMPTS, ""]
    theirs, _ = family.pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    for a, b in zip(ours.tokens, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_its_batch(family: ZImage) -> None:
    """Trap 12, with conditions of two padded lengths."""
    long = " and ".join(["a red circle"] * 10)
    cond = family.encode_text([PROMPTS[0], long])
    assert len(cond.tokens[0]) <= 32 < len(cond.tokens[1])
    x, sigma = noise(2), torch.tensor([0.7, 0.2])
    with torch.no_grad():
        both = family.backbone(x, sigma, cond)
        for i in range(2):
            alone = family.backbone(x[i : i + 1], sigma[i : i + 1], cond[i : i + 1])
            torch.testing.assert_close(both[i : i + 1], alone, atol=2e-5, rtol=1e-5)
        feats = family.backbone.features(x, sigma, cond, [0, 3])
        alone = family.backbone.features(x[:1], sigma[:1], cond[:1], [0, 3])
        torch.testing.assert_close(feats[1][:1], alone[1], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [(16, 16), (8, 24), (12, 16)])
def test_features_are_the_image_tokens_of_the_blocks(family: ZImage, side: tuple[int, int]) -> None:
    """Trap 11: the tapped tokens move with the picture, and their number is that of the patches."""
    x = torch.randn(2, 8, *side, generator=torch.Generator().manual_seed(1))
    sigma, cond = torch.tensor([0.5, 0.8]), family.encode_text(PROMPTS)
    rows, columns = family.backbone.token_grid(x)
    outputs: dict[int, Tensor] = {}
    blocks = family.pipeline.transformer.layers
    handles = [
        b.register_forward_hook(lambda _m, _a, out, i=i: outputs.update({i: out}))
        for i, b in enumerate(blocks)
    ]
    with torch.no_grad():
        family.backbone(x, sigma, cond)
        whole = dict(outputs)
        outputs.clear()
        feats = family.backbone.features(x, sigma, cond, [3, 1])
    for handle in handles:
        handle.remove()
    assert max(outputs) <= 3, "the forward pass must end at the deepest tap"
    for i, feat in zip([3, 1], feats, strict=True):
        assert feat.shape == (2, rows * columns, family.backbone.width)
        torch.testing.assert_close(feat, whole[i][:, : rows * columns])


@pytest.mark.fault(12)
def test_feature_gradients_reach_x_and_no_frozen_parameter(family: ZImage) -> None:
    """Trap 6, 32: and they are the same with activation checkpointing, which really recomputes."""
    transformer = family.pipeline.transformer
    sigma, cond = torch.tensor([0.5, 0.8]), family.encode_text(PROMPTS)
    calls = 0

    def counting(module: nn.Module, *args: object) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        def run(*inner: object) -> Tensor:
            nonlocal calls
            calls += 1
            return module(*inner)

        return checkpoint(run, *args, use_reentrant=False)

    def gradient() -> Tensor:
        x = noise(2).requires_grad_()
        feats = family.backbone.features(x, sigma, cond, [1, 4])
        (grad,) = torch.autograd.grad(sum(f.square().mean() for f in feats), x)  # type: ignore[arg-type]
        return grad

    plain = gradient()
    try:
        transformer.enable_gradient_checkpointing(counting)
        transformer.train()
        again = gradient()
    finally:
        transformer.disable_gradient_checkpointing()
        transformer.eval()
    assert plain.abs().max() > 0
    torch.testing.assert_close(again, plain, rtol=0, atol=0)
    forwards = 1 + 1 + 5  # noise refiner, context refiner, blocks 0..4
    assert calls > forwards, f"checkpointing must recompute: {calls} calls of {forwards} blocks"
    assert all(p.grad is None and not p.requires_grad for p in transformer.parameters())


def test_latents_go_round_in_the_models_normalisation(family: ZImage) -> None:
    """Trap 15: decode is the pipeline's, encode its inverse in scale and shift."""
    x0 = noise(2) * 0.5
    vae = family.pipeline.vae
    with torch.no_grad():
        raw = vae.decode(x0 / 0.5 + 0.1).sample
        torch.testing.assert_close(family.decode(x0), (raw / 2 + 0.5).clamp(0, 1))
        images = torch.rand(2, 3, 64, 64)
        z = vae.encode(images * 2 - 1).latent_dist.mean
    torch.testing.assert_close(family.encode_image(images), (z - 0.1) * 0.5)


def test_save_and_load_give_the_same_model(family: ZImage, tmp_path: Path) -> None:
    """Trap 30: through our loader and through plain diffusers, outputs included."""
    family.save(tmp_path / "m", family.backbone)
    again = ZImage.load(tmp_path / "m")
    assert again.fingerprint() == family.fingerprint()
    again.save(tmp_path / "n", again.backbone)
    configs = list((tmp_path / "n").glob("*/config.json"))
    assert configs and not any(str(tmp_path) in c.read_text() for c in configs)
    x = noise(2)
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "m")
    theirs = pipe(
        list(PROMPTS), height=64, width=64, num_inference_steps=2, guidance_scale=0.0,
        latents=x.clone(), output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(theirs, by_pipeline(family, x, 2, 0.0))
    images = torch.rand(2, 3, 64, 64)
    a, b = family.encode_text(PROMPTS, images), again.encode_text(PROMPTS, images)
    torch.testing.assert_close(a.tokens[0], b.tokens[0])


def test_fingerprint_sees_every_weight(family: ZImage) -> None:
    before = family.fingerprint()
    weight = tiny_pictures(family).model.visual.merger.linear_fc1.bias
    with torch.no_grad():
        weight[0] += 1e-3
        changed = family.fingerprint()
        weight[0] -= 1e-3
    assert changed != before


def test_a_fresh_adapter_changes_nothing_and_leaves_the_base_alone(family: ZImage) -> None:
    """On a shared tree: the adapter hangs on a second structure over the same weights."""
    from peft import LoraConfig

    backbone = share(family.backbone)
    backbone.transformer.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v", "w2"]))
    x, sigma, cond = noise(2), torch.tensor([0.9, 0.3]), family.encode_text(PROMPTS)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(x, sigma, cond), family.backbone(x, sigma, cond), rtol=0, atol=0
        )
    names = {n for n, _ in family.backbone.named_parameters()}
    assert not any("lora" in n for n in names)
    assert any("lora" in n for n, _ in backbone.named_parameters())
