"""The Z-Image transformer for batches of one padded length, written for speed.

The same parameters and the same mathematics as `ZImageTransformer2DModel` (contract tests hold the
two together): dense patches instead of lists, real instead of complex rotations, low-precision
products with float32 sums and a float32 residual stream, no work after the deepest tapped block,
and one block function that torch.compile compiles once for all blocks.

It reads the weights of layers instead of calling them. Those of an adapted layer are made for each
pass (`nets.adapters.Adapted`), which is cheap for small models alone; peft's layers have none.
"""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# the libraries' annotations are looser than their classes; contract tests hold the values

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch._dynamo
from diffusers import ZImageTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.families.base import Cond
from fewstep.families.zimage import MULTIPLE, ZImageBackbone
from fewstep.shapes import Latent, Sigma, Tokens


def unit(x: Tensor) -> Tensor:
    """Of mean square 1, float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


def halves(w: Tensor, heads: int) -> Tensor:
    """Rows of a projection to heads: in each head the first of all pairs, then the second ones.

    Z-Image rotates neighbours, (0, 1), (2, 3), ..., which no vector unit is good at. Products of
    queries and keys do not notice that both are ordered anew.
    """
    return w.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Of a head in `halves`; the first half of `sin` has the other sign."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax of q k times v, (b, heads, s, d). The backward pass of torch's kernel is slow in
    bfloat16 (decision 4)."""
    if q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return torch.softmax((q @ k.transpose(-1, -2)).float(), -1).to(q.dtype) @ v


def block(
    x: Tensor, cos: Tensor, sin: Tensor, mod: Tensor | None, heads: int, low: torch.dtype,
    wq: Tensor, wk: Tensor, wv: Tensor, wo: Tensor, nq: Tensor, nk: Tensor, n1: Tensor, n2: Tensor,
    f1: Tensor, f2: Tensor, w1: Tensor, w2: Tensor, w3: Tensor,
) -> Tensor:  # fmt: skip
    """One transformer block; `mod` is its modulation, (b, 4 d), None in the context refiner.

    cos, sin  (s, heads, d / heads), as `rotate` wants them
    """
    if mod is None:
        scale_a = gate_a = scale_f = gate_f = torch.ones((), device=x.device)
    else:
        scale_a, gate_a, scale_f, gate_f = mod.unsqueeze(1).chunk(4, 2)
        scale_a, scale_f, gate_a, gate_f = 1 + scale_a, 1 + scale_f, gate_a.tanh(), gate_f.tanh()
    b, s, d = x.shape
    h = (unit(x) * (n1 * scale_a)).to(low)
    wq, wk, nq, nk = halves(wq, heads), halves(wk, heads), halves(nq, 1), halves(nk, 1)
    q, k, v = (F.linear(h, w.to(low)).view(b, s, heads, -1) for w in (wq, wk, wv))
    q = rotate(unit(q) * (nq * q.shape[-1] ** -0.5), cos, sin).to(low).transpose(1, 2)
    k = rotate(unit(k) * nk, cos, sin).to(low).transpose(1, 2)
    mixed = attend(q, k, v.transpose(1, 2)).transpose(1, 2).reshape(b, s, d)
    x = torch.addcmul(x, unit(F.linear(mixed, wo.to(low))), n2 * gate_a)
    h = (unit(x) * (f1 * scale_f)).to(low)
    h = F.linear(F.silu(F.linear(h, w1.to(low))) * F.linear(h, w3.to(low)), w2.to(low))
    return torch.addcmul(x, unit(h), f2 * gate_f)


def product_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it fast, float32 elsewhere: on processors without
    AVX-512 or the like torch multiplies bfloat16 in plain loops, sixty times as slowly as float32.
    """
    match device.type:
        case "cpu":
            fast = (
                torch.backends.mkldnn.is_available()
                and torch.ops.mkldnn._is_mkldnn_bf16_supported()
            )
        case "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        case _:
            fast = False
    return torch.bfloat16 if fast else torch.float32


class FusedZImage(ZImageBackbone):
    """`ZImageBackbone` that takes the fast way wherever all conditions have one padded length.

    low       dtype of the products (`product_dtype`)
    compiled  whether blocks go through torch.compile (about a minute at the first call)
    """

    def __init__(
        self, transformer: ZImageTransformer2DModel, low: torch.dtype, *, compiled: bool
    ) -> None:
        super().__init__(transformer)
        self.low = low
        self.compiled = compiled
        self.block: Callable[..., Tensor] = block
        if compiled:
            # One graph for each length of tokens, with and without gradients to input and weights;
            # beyond torch's default limit of 8 it would quietly go on without compiling.
            torch._dynamo.config.recompile_limit = max(256, torch._dynamo.config.recompile_limit)
            self.block = torch.compile(block, dynamic=False)

    def forward(self, x: Latent, sigma: Sigma, cond: Cond) -> Latent:
        return self.tapped(x, sigma, cond, ())[0]

    def tapped(
        self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]
    ) -> tuple[Latent, list[Tokens]]:
        """The velocity and, from the same pass, the image tokens after each of `layers`, which
        may be none; two passes where the batch does not fit."""
        if layers:
            self.check_layers(layers)
        if not self.fits(x, cond):
            tokens = super().features(x, sigma, cond, layers) if layers else []
            return super().forward(x, sigma, cond), tokens
        time = self.time(sigma)
        seen: dict[int, Tensor] = dict.fromkeys(layers, x)
        out = self.run(x, time, cond, self.depth - 1, seen).to(self.transformer.dtype)
        out = self.transformer.all_final_layer["2-1"](out, c=time)
        b, c, h, w = x.shape
        out = out.view(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4)
        return -out.reshape(b, c, h, w).float(), [seen[i] for i in layers]

    def features(self, x: Latent, sigma: Sigma, cond: Cond, layers: Sequence[int]) -> list[Tokens]:
        self.check_layers(layers)
        if not self.fits(x, cond):
            return super().features(x, sigma, cond, layers)
        seen: dict[int, Tensor] = dict.fromkeys(layers, x)
        self.run(x, self.time(sigma), cond, max(layers), seen)
        return [seen[i] for i in layers]

    def plain(self) -> ZImageBackbone:
        return ZImageBackbone(self.transformer)

    def fits(self, x: Latent, cond: Cond) -> bool:
        """One padded length, and no padding among the image tokens."""
        padded = {-(-len(t) // MULTIPLE) for t in cond.tokens}
        tokens = x.shape[-2] * x.shape[-1] // 4
        return len(padded) == 1 and tokens % MULTIPLE == 0 and self.patch == 2

    def time(self, sigma: Sigma) -> Tensor:
        return self.transformer.t_embedder((1 - sigma.float()) * self.transformer.t_scale)

    def run(
        self, x: Latent, time: Tensor, cond: Cond, last: int, seen: dict[int, Tensor]
    ) -> Tensor:
        """Image tokens after block `last`, float32; those after the blocks in `seen` are put
        there. Only the embedders see the type of the weights."""
        m = self.transformer
        b, c, h, w = x.shape
        lengths = torch.tensor([len(t) for t in cond.tokens])
        text_len = -(-int(lengths.max()) // MULTIPLE) * MULTIPLE
        patches = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
        image = m.all_x_embedder["2-1"](patches.reshape(b, -1, 4 * c).to(m.dtype)).float()
        inside = (torch.arange(text_len)[None] < lengths[:, None]).to(x.device)
        words = m.cap_embedder(torch.cat(cond.tokens).to(m.dtype)).float()
        text = m.cap_pad_token.float().expand(b, text_len, -1)
        text = text.masked_scatter(inside[..., None], words)
        places = torch.cartesian_prod(
            torch.tensor([text_len + 1]), torch.arange(h // 2), torch.arange(w // 2)
        )
        order = F.pad(torch.arange(1, text_len + 1)[:, None], (0, 2))
        turns = self.turns(torch.cat([places, order]).to(x.device))
        n = image.shape[1]
        for layer in m.noise_refiner:
            image = self.through(layer, image, [t[:n] for t in turns], time)
        for layer in m.context_refiner:
            text = self.through(layer, text, [t[n:] for t in turns], None)
        both = torch.cat([image, text], 1)
        for i, layer in enumerate(m.layers[: last + 1]):
            both = self.through(layer, both, turns, time)
            if i in seen:
                seen[i] = both[:, :n]
        return both[:, :n]

    def turns(self, places: Tensor) -> list[Tensor]:
        """Cosines and sines of the tokens at these places, as `block` wants them."""
        m = self.transformer
        freqs = m.rope_embedder(places)[:, None].expand(-1, m.config.n_heads, -1)
        cos, sin = freqs.real, freqs.imag
        return [torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)]

    def through(
        self, layer: nn.Module, x: Tensor, turns: Sequence[Tensor], time: Tensor | None
    ) -> Tensor:
        a, f = layer.attention, layer.feed_forward
        mod = layer.adaLN_modulation(time) if layer.modulation else None
        return self.block(
            x, *turns, mod, a.heads, self.low,
            a.to_q.weight, a.to_k.weight, a.to_v.weight, a.to_out[0].weight,
            a.norm_q.weight, a.norm_k.weight,
            layer.attention_norm1.weight, layer.attention_norm2.weight,
            layer.ffn_norm1.weight, layer.ffn_norm2.weight,
            f.w1.weight, f.w2.weight, f.w3.weight,
        )  # fmt: skip
