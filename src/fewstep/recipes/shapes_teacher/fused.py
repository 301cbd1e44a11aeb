"""The Z-Image transformer for batches of one padded length, written for speed on a CPU.

The same parameters and the same mathematics as `ZImageTransformer2DModel` (a test holds the two
together): dense patches instead of lists, real instead of complex rotations, bfloat16 products with
float32 sums, and one block function that torch.compile compiles once for all blocks.
"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor
from torch.nn import functional as F

from fewstep.families.base import Cond
from fewstep.shapes import Latent, Sigma

MULTIPLE = 32  # Z-Image pads text and image tokens to multiples of this


def rms(x: Tensor, weight: Tensor) -> Tensor:
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def block(
    x: Tensor, cos: Tensor, sin: Tensor, mod: Tensor | None, heads: int, low: torch.dtype,
    wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, nq: Tensor, nk: Tensor, n1: Tensor, n2: Tensor,
    f1: Tensor, f2: Tensor, w1: Tensor, w2: Tensor, w3: Tensor,
) -> Tensor:  # fmt: skip
    """One transformer block; `mod` is its modulation, (b, 4 d), None in the context refiner."""
    if mod is None:
        scale_a = gate_a = scale_f = gate_f = torch.ones((), dtype=torch.float32)
    else:
        scale_a, gate_a, scale_f, gate_f = mod.unsqueeze(1).chunk(4, 2)
        scale_a, scale_f, gate_a, gate_f = 1 + scale_a, 1 + scale_f, gate_a.tanh(), gate_f.tanh()
    b, s, d = x.shape
    h = (rms(x, n1) * scale_a).to(low)
    q, k, v = (F.linear(h, w.to(low)).view(b, s, heads, -1) for w in (wq, wk, wv))
    q = rotate(rms(q, nq), cos, sin).to(low).transpose(1, 2)
    k = rotate(rms(k, nk), cos, sin).to(low).transpose(1, 2)
    weights = torch.softmax((q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5, -1).to(low)
    mixed = (weights @ v.transpose(1, 2)).transpose(1, 2).reshape(b, s, d)
    x = x + gate_a * rms(F.linear(mixed, wo.to(low)), n2)
    h = (rms(x, f1) * scale_f).to(low)
    h = F.linear(F.silu(F.linear(h, w1.to(low))) * F.linear(h, w3.to(low)), w2.to(low))
    return x + gate_f * rms(h, f2)


class Fused:
    """`velocity(x, sigma, cond)` of a transformer, for conditions of one padded length."""

    def __init__(
        self,
        model: ZImageTransformer2DModel,
        low: torch.dtype = torch.bfloat16,
        compiled: bool = True,
    ) -> None:
        self.model = model
        self.low = low
        self.block: Callable[..., Tensor] = (
            torch.compile(block, dynamic=False) if compiled else block
        )  # fmt: skip

    def run(self, layer: torch.nn.Module, x: Tensor, freqs: Tensor, time: Tensor | None) -> Tensor:
        a, f = layer.attention, layer.feed_forward
        mod = layer.adaLN_modulation(time) if layer.modulation else None
        cos, sin = freqs.real[:, None].contiguous(), freqs.imag[:, None].contiguous()
        return self.block(
            x, cos, sin, mod, a.heads, self.low,
            a.to_q.weight, a.to_k.weight, a.to_v.weight, a.to_out[0].weight,
            a.norm_q.weight, a.norm_k.weight,
            layer.attention_norm1.weight, layer.attention_norm2.weight,
            layer.ffn_norm1.weight, layer.ffn_norm2.weight,
            f.w1.weight, f.w2.weight, f.w3.weight,
        )  # fmt: skip

    def velocity(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        m = self.model
        b, c, h, w = x.shape
        lengths = [len(t) for t in cond.tokens]
        padded = {-(-n // MULTIPLE) * MULTIPLE for n in lengths}
        if len(padded) > 1 or (h * w // 4) % MULTIPLE:
            raise ValueError(f"Fused wants one padded length and full rows of tokens, got {padded}")
        text_len = padded.pop()
        time = m.t_embedder((1 - sigma) * m.t_scale)
        image = m.all_x_embedder["2-1"](
            x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, 4 * c)
        )
        inside = torch.arange(text_len)[None] < torch.tensor(lengths)[:, None]
        text = m.cap_pad_token.expand(b, text_len, -1).masked_scatter(
            inside[..., None], m.cap_embedder(torch.cat(cond.tokens))
        )
        places = torch.cartesian_prod(
            torch.tensor([text_len + 1]), torch.arange(h // 2), torch.arange(w // 2)
        )
        words = F.pad(torch.arange(1, text_len + 1)[:, None], (0, 2))
        image_freqs, text_freqs = m.rope_embedder(places), m.rope_embedder(words)
        for layer in m.noise_refiner:
            image = self.run(layer, image, image_freqs, time)
        for layer in m.context_refiner:
            text = self.run(layer, text, text_freqs, None)
        both, freqs = torch.cat([image, text], 1), torch.cat([image_freqs, text_freqs])
        for layer in m.layers:
            both = self.run(layer, both, freqs, time)
        out = m.all_final_layer["2-1"](both[:, : image.shape[1]], c=time)
        out = out.view(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4)
        return -out.reshape(b, c, h, w)
