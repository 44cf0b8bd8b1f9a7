"""A transformer encoder's vectors, sooner: the same mathematics for inference alone, in fp32, bf16 or int8.

What is saved, against the module itself:

- Padding is never computed. The real tokens of all rows stand one behind the other, rows of one length together; only
  the attention looks at rows, a length at a time, and so needs no mask.
- In the last block only what is pooled is computed, where that is the first or the last token of a row.
- Every linear layer has the form that multiplies fastest here (``layers/linear.py``): weights laid out once, activation
  and residual fused, in int8 bytes. Attention and residuals are fp32, bf16 (bf16), or bf16 and fp32 (int8).
- So many rows at a time that what lies between two layers stays in the processor's cache.
- Pictures come as bytes; their normalisation is folded into the first product.

A prepared encoder is a copy of its weights (int8: a quarter, bf16: half of the memory of fp32). It is made when first
used, kept while the encoder lives, and made anew after a weight has changed; the encoder itself stays as it was.
``logit_scale`` and heads are the system's. Left out: encoders that are no transformer, and blocks with a second stream,
which run as they are, under autocast.
"""

import threading
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import runtime
from intermodal.encoders.transformer import TransformerEncoder
from intermodal.errors import Unsupported
from intermodal.layers.block import Block, quick_gelu
from intermodal.layers.linear import Int8, Product, product
from intermodal.layers.stem import PatchStem, patches
from intermodal.types import Batch, Preprocessor

TOKENS = 1600
"""Of one pass through the blocks."""
SHORT = 128
"""Tokens up to which attention in bf16 holds all weights of a row; blocks of them are slower on a CPU."""

_prepared: "WeakKeyDictionary[nn.Module, dict[str, Prepared]]" = WeakKeyDictionary()
_lock = threading.Lock()


class Colours(Protocol):
    """A preprocessor whose values are bytes times a scale plus a shift, one of each per channel."""

    def raw(self, items: Sequence[Any]) -> Batch:
        """Returns the bytes."""
        ...

    @property
    def colours(self) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
        """The scales and the shifts."""
        ...


def batch_of(encoder: nn.Module, preprocessor: Preprocessor, items: Sequence[Any]) -> Batch:
    """Returns the batch of these items for ``pooled``: as bytes, where the first product can take them."""
    if hasattr(preprocessor, "raw") and _is_known(encoder) and type(encoder.stem) is PatchStem:
        raw: Batch = preprocessor.raw(items)
        return raw
    return preprocessor(items)


def pooled(
    encoder: nn.Module, batch: Batch, precision: str, colours: Preprocessor | None = None
) -> Float[Tensor, "B D"]:
    """Returns the pooled vectors that ``encoder`` gives in eval mode, zero for absent rows, without gradients.

    Args:
        encoder: any encoder.
        batch: of its layout, or the bytes of ``batch_of``.
        precision: one of ``runtime.PRECISIONS``.
        colours: the preprocessor that the bytes are of.

    Raises:
        Unsupported: int8 elsewhere than on a CPU.
    """
    where = batch.mask.device
    if precision == "int8" and where.type != "cpu":
        raise Unsupported(f"int8 is computed on a CPU alone, not on {where}; use bf16 or fp32 there")
    with torch.no_grad():
        if _is_known(encoder):
            return prepared(encoder, precision)(batch, colours)
        low = precision != "fp32" and runtime.has_bf16(where)
        with runtime.autocast("bf16" if low else "fp32", where):
            plain: Tensor = encoder(batch).pooled
        return plain.float()


def prepared(encoder: nn.Module, precision: str) -> "Prepared":
    """Returns the encoder prepared for inference, from its weights as they are now."""
    stamp = _stamp(encoder)
    with _lock:
        kept = _prepared.setdefault(encoder, {})
        if precision not in kept or kept[precision].stamp != stamp:
            for old in [name for name, form in kept.items() if form.stamp != stamp]:
                del kept[old]
            kept[precision] = Prepared(encoder, precision, stamp)  # type: ignore[arg-type]
        return kept[precision]


def _stamp(encoder: nn.Module) -> tuple[tuple[int, int], ...]:
    """Returns what changes with any weight: where it lies, and how often torch has written to it."""
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in encoder.parameters())


def _is_known(encoder: nn.Module) -> bool:
    """Returns whether the encoder can be prepared."""
    return isinstance(encoder, TransformerEncoder) and all(
        type(block) is Block and not block.has_context and block.activation in (F.gelu, quick_gelu)
        for block in encoder.blocks
    )


@dataclass(frozen=True)
class Rows:
    """Which rows of a pass are equally long: ``count`` of ``length`` tokens each, from token ``start`` on."""

    start: int
    count: int
    length: int


class Prepared:
    """A transformer encoder for inference in one precision."""

    def __init__(self, encoder: TransformerEncoder, precision: str, stamp: tuple[tuple[int, int], ...]) -> None:
        """Copies the weights into the forms that are fastest; ``stamp`` tells which weights these were."""
        self.stamp, self.precision = stamp, precision
        weight = encoder.norm.weight
        low = precision == "bf16" or (precision == "int8" and runtime.has_bf16(weight.device))
        self.narrow = torch.bfloat16 if low else torch.float32
        self.residual = self.narrow if precision == "bf16" else torch.float32
        self.stem = _Patches(encoder.stem, precision) if type(encoder.stem) is PatchStem else encoder.stem
        self.positions, self.pool = encoder.positions, encoder.pool
        self.first_token, self.norm_in, self.norm = encoder.first_token, encoder.norm_in, encoder.norm
        self.causal, self.stems = encoder.causal, dict[tuple[float, ...], _Patches]()
        self.one = encoder.pool.kind == "last" or (encoder.pool.kind == "first" and not encoder.causal)
        self.blocks = [_Block(block, precision, encoder.causal) for block in encoder.blocks]  # type: ignore[arg-type]
        if self.one:
            self.blocks[-1].split(encoder.blocks[-1], precision)  # type: ignore[arg-type]

    def __call__(self, batch: Batch, colours: Any = None) -> Float[Tensor, "B D"]:
        """Returns the pooled vectors in fp32; of bytes with the colours that they are of."""
        stem = self.stem if batch.values.dtype != torch.uint8 else self._of_bytes(colours)
        lengths = batch.mask.sum(dim=1)
        sizes, order = lengths.sort(stable=True)
        absent = int((sizes == 0).sum())
        result = torch.zeros(len(batch), self.norm.weight.shape[0], device=batch.mask.device)
        counts = [n + (self.first_token is not None) for n in sizes.tolist()]
        for start, stop in _passes(counts, absent):
            rows = order[start:stop]
            result[rows] = self._pass(stem, batch.rows(rows), counts[start:stop])
        return result

    def _of_bytes(self, colours: Colours) -> Callable[[Batch], tuple[Tensor, tuple[int, ...]]]:
        """Returns the stem that takes bytes; made when first asked for."""
        scale, shift = colours.colours
        key = (*scale.tolist(), *shift.tolist())
        if key not in self.stems:
            self.stems[key] = self.stem.of_bytes(scale, shift)
        return self.stems[key]

    def _pass(self, stem: Any, batch: Batch, counts: Sequence[int]) -> Float[Tensor, "B D"]:
        """Returns the vectors of present rows, which rise in length, ``counts`` tokens each."""
        if batch.values.dim() == 2:  # symbols: what stands behind the longest row need not be looked up
            width = int(batch.mask.any(dim=0).nonzero().amax()) + 1
            batch = Batch(batch.values[:, :width], batch.mask[:, :width])
        x, grid = stem(batch)
        x, mask = x + self.positions(grid), batch.mask
        if self.first_token is not None:
            x = torch.cat((self.first_token.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
            mask = F.pad(mask, (1, 0), value=True)
        x = x.flatten(0, 1) if sum(counts) == mask.numel() else x[mask]
        if self.norm_in is not None:
            x = self.norm_in(x)
        x, groups = x.to(self.residual), _groups(counts)
        for block in self.blocks[: -1 if self.one else None]:
            x = block(x, groups)
        if self.one:
            ends = torch.tensor(counts, device=x.device).cumsum(0)
            chosen = ends - 1 if self.pool.kind == "last" else F.pad(ends[:-1], (1, 0))
            return _normed(self.blocks[-1].ending(x, groups, chosen), self.norm).float()
        x = _normed(x, self.norm).float()
        if len(x) == mask.numel():
            return self.pool(x.unflatten(0, mask.shape), mask)  # type: ignore[no-any-return]
        padded = x.new_zeros(*mask.shape, x.shape[1])
        padded[mask] = x
        return self.pool(padded, mask)  # type: ignore[no-any-return]


class _Patches:
    """Patches to tokens: of floats, or of bytes with the colours folded into the weights."""

    def __init__(self, stem: PatchStem, precision: str) -> None:
        self.patch, self.precision, self.bytes = stem.patch, precision, False
        self.weight, self.bias = stem.project.weight.detach(), stem.project.bias.detach()
        self.project: Product = product(self.weight, self.bias, precision)

    def of_bytes(self, scale: Float[Tensor, " C"], shift: Float[Tensor, " C"]) -> "_Patches":
        """Returns the same for bytes, with the channels last in every patch: they lie so in memory."""
        made = copy(self)
        weight = self.weight.view(len(self.weight), len(scale), -1)
        bias = self.bias + (weight * shift[:, None].to(weight)).sum(dim=(1, 2))
        weight = (weight * scale[:, None].to(weight)).transpose(1, 2).flatten(1)
        made.bytes, made.project = True, product(weight, bias, self.precision)
        return made

    def __call__(self, batch: Batch) -> tuple[Float[Tensor, "B T D"], tuple[int, ...]]:
        """Returns the tokens in row-major order and the size of their grid."""
        if not self.bytes:
            cut = patches(batch.values, self.patch)
        else:
            rank = len(self.patch)
            cut = patches(batch.values.movedim(1, -1).unsqueeze(1), (*self.patch, batch.values.shape[1]))
            cut = cut.squeeze(1 + rank)
        x, size = cut.flatten(0, -2), cut.shape[:-1]
        if self.bytes and isinstance(self.project, Int8):
            y = self.project.of_bytes(x)
        else:
            y = self.project(x.to(torch.bfloat16 if self.precision == "bf16" else torch.float32))
        return y.unflatten(0, (size[0], -1)), tuple(size[1:])


class _Block:
    """One layer of a transformer over the tokens of many rows, one behind the other."""

    def __init__(self, block: Block, precision: str, causal: bool) -> None:
        attend = block.attend_self
        self.norm_self, self.norm_mlp = block.norm_self, block.norm_mlp
        self.heads, self.causal = attend.heads, causal
        self.qkv: Product = product(attend.qkv.weight, attend.qkv.bias, precision)
        self.out: Product = product(attend.out.weight, attend.out.bias, precision)
        quick = block.activation is quick_gelu  # x * sigmoid(a x) is swish(a x) / a
        scale, kind = (1.702, "swish") if quick else (1.0, "gelu")
        self.mlp_in: Product = product(block.mlp_in.weight * scale, block.mlp_in.bias * scale, precision, kind)
        self.mlp_out: Product = product(block.mlp_out.weight / scale, block.mlp_out.bias, precision)

    def split(self, block: Block, precision: str) -> None:
        """Makes it the last block, of which the vectors of few tokens are asked: queries apart from the rest."""
        attend = block.attend_self.qkv
        width = attend.in_features
        self.q: Product = product(attend.weight[:width], attend.bias[:width], precision)
        self.kv: Product = product(attend.weight[width:], attend.bias[width:], precision)
        del self.qkv

    def __call__(self, x: Float[Tensor, "M D"], groups: Sequence[Rows]) -> Float[Tensor, "M D"]:
        """Returns the tokens after this layer."""
        qkv = self.qkv(_normed(x, self.norm_self))
        parts = []
        for rows in groups:
            part = qkv[rows.start : rows.start + rows.count * rows.length]
            q, k, v = part.view(rows.count, rows.length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            parts.append(attend(q, k, v, self.causal))
        gathered = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self._rest(x, gathered)

    def ending(self, x: Float[Tensor, "M D"], groups: Sequence[Rows], chosen: Tensor) -> Float[Tensor, "B D"]:
        """Returns one token of each row after this layer: those at ``chosen``, which see their whole row."""
        normed = _normed(x, self.norm_self)
        kv = self.kv(normed)
        if len(chosen) == 1:
            chosen = chosen.expand(2)  # a product with a single row is summed in another order
        q, x = self.q(normed[chosen]), x[chosen]
        parts, row = [], 0
        for rows in groups:
            part = kv[rows.start : rows.start + rows.count * rows.length]
            k, v = part.view(rows.count, rows.length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
            asked = q[row : row + rows.count].view(rows.count, 1, self.heads, -1).transpose(1, 2)
            parts.append(attend(asked, k, v, False))
            row += rows.count
        gathered = torch.cat(parts)
        return self._rest(x, gathered.expand(len(x), -1))[:row]

    def _rest(self, x: Float[Tensor, "M D"], gathered: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        x = self.out(gathered, x)
        return self.mlp_out(self.mlp_in(_normed(x, self.norm_mlp)), x)


def attend(
    q: Float[Tensor, "B H Q E"], k: Float[Tensor, "B H T E"], v: Float[Tensor, "B H T E"], causal: bool
) -> Float[Tensor, "M D"]:
    """Returns what each query gathers, heads side by side, row behind row."""
    if q.dtype != torch.bfloat16 or q.device.type != "cpu" or k.shape[2] > SHORT:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2).flatten(0, 1)
    size = (len(q) * q.shape[1], -1, q.shape[-1])
    hidden = q.new_zeros(1, 1, 1)
    if causal:
        hidden = q.new_full((1, q.shape[2], k.shape[2]), -torch.inf).triu_(1)
    flat_q, flat_k, flat_v = (t.reshape(size) for t in (q, k, v))
    scores = torch.baddbmm(hidden, flat_q, flat_k.transpose(1, 2), beta=int(causal), alpha=q.shape[-1] ** -0.5)
    gathered = torch.bmm(scores.softmax(dim=-1), flat_v)
    return gathered.view(q.shape).transpose(1, 2).flatten(2).flatten(0, 1)


def _normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Returns the layer normalisation in the precision of ``x``."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _passes(counts: Sequence[int], first: int) -> list[tuple[int, int]]:
    """Returns from and to which row each pass goes, from row ``first`` on: about ``TOKENS`` tokens, at least a row."""
    made, start, tokens = [], first, 0
    for i in range(first, len(counts)):
        if tokens and tokens + counts[i] > TOKENS:
            made.append((start, i))
            start, tokens = i, 0
        tokens += counts[i]
    return [*made, (start, len(counts))] if start < len(counts) else made


def _groups(counts: Sequence[int]) -> list[Rows]:
    """Returns the rows of each length, of a rising list of lengths."""
    made: list[Rows] = []
    start = 0
    for count in counts:
        if made and made[-1].length == count:
            made[-1] = Rows(made[-1].start, made[-1].count + 1, count)
        else:
            made.append(Rows(start, 1, count))
        start += count
    return made
