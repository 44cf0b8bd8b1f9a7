"""A transformer encoder's vectors, sooner: the same mathematics for inference alone, in fp32, bf16 or int8.

What is saved, against the module itself:

- Padding is never computed. The real tokens of all rows stand one behind the other, rows of one length together; only
  the attention looks at rows, a length at a time, and so needs no mask.
- In the last block only what is pooled is computed, where that is the first or the last token of a row.
- Words that many texts begin with are computed once, where each token sees only those before it and the last is pooled.
- Every linear layer has the form that multiplies fastest here (``layers/linear.py``): weights laid out once, activation
  and residual fused, in int8 bytes. Attention and residuals are fp32, bf16 (bf16), or bf16 and fp32 (int8).
- So many rows at a time that most of what lies between two layers stays in the processor's cache.
- Pictures come as bytes; their normalisation is folded into the first product.

A prepared encoder is a copy of its weights (int8: a quarter, bf16: half of the memory of fp32). It is made when first
used, kept while the encoder lives, and made anew after a weight has changed; the encoder itself stays as it was.
Left out: encoders that are no transformer, and blocks with a second stream, which run as they are, under autocast.
"""

import threading
from collections.abc import Sequence
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal import runtime
from intermodal.encoders import passes
from intermodal.encoders.passes import STEP, Rows
from intermodal.encoders.transformer import TransformerEncoder
from intermodal.errors import Unsupported
from intermodal.layers.block import Block, quick_gelu
from intermodal.layers.linear import Int8, Product, available, product
from intermodal.layers.stem import PatchStem, patches
from intermodal.types import Batch, Preprocessor

SHORT = 128
"""Tokens up to which attention in bf16 holds all weights of a row; blocks of them are slower on a CPU."""

_prepared: "WeakKeyDictionary[nn.Module, dict[str, tuple[Prepared, _Weights]]]" = WeakKeyDictionary()
_lock = threading.Lock()


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
        colours: the preprocessor that the bytes are of; its ``colours`` are the scale and the shift of each channel.

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
    with _lock:
        kept = _prepared.setdefault(encoder, {})
        for old in [name for name, (_, weights) in kept.items() if not weights.are_those_of(encoder)]:
            del kept[old]
        if precision not in kept:
            kept[precision] = Prepared(encoder, precision), _Weights(encoder)  # type: ignore[arg-type]
        return kept[precision][0]


class _Weights:
    """Which weights an encoder had: where each lies, how often torch has written to it, and some of its numbers.

    Fused optimizers and ``.data`` write without being counted, but not without changing one number in sixty.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.places = _places(encoder)
        self.some = [_some(p.detach()) for p in encoder.parameters()]
        self.numbers = torch.cat(self.some)

    def are_those_of(self, encoder: nn.Module) -> bool:
        """Returns whether the encoder has the same weights still."""
        return self.places == _places(encoder) and torch.equal(torch.cat(self.some), self.numbers)


def _some(p: Tensor) -> Tensor:
    """Returns a view of about sixty of a tensor's numbers."""
    flat = p.view(-1) if p.is_contiguous() else p[(0,) * (p.dim() - 1)]
    return flat[:: max(1, len(flat) // 61)]


def _places(encoder: nn.Module) -> tuple[tuple[int, int], ...]:
    return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in encoder.parameters())


def _is_known(encoder: nn.Module) -> bool:
    """Returns whether the encoder can be prepared."""
    return isinstance(encoder, TransformerEncoder) and all(
        type(each) is Block and not (each.has_context or each.norms.after) and each.activation in (F.gelu, quick_gelu)
        for each in encoder.blocks
    )


class Prepared:
    """A transformer encoder for inference in one precision."""

    def __init__(self, encoder: TransformerEncoder, precision: str) -> None:
        """Copies the weights into the forms that are fastest."""
        precision = available(precision, encoder.norm.weight.device)
        self.residual = torch.bfloat16 if precision == "bf16" else torch.float32
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
        result = torch.zeros(len(batch), self.norm.weight.shape[0], device=batch.mask.device)
        counts = (batch.mask.sum(dim=1) + int(self.first_token is not None)).tolist()
        rows = batch.present.nonzero()[:, 0].tolist()
        begins = self.one and self.causal and self.first_token is None and _is_text(batch)
        if begins:
            parts = passes.alike(rows, [ids[:n] for ids, n in zip(batch.values.tolist(), counts, strict=True)])
        else:
            parts = [sorted(rows, key=counts.__getitem__)]
        for chosen in [each for part in parts for each in passes.passes(part, counts)]:
            chosen.sort(key=counts.__getitem__)
            part = batch if chosen == list(range(len(batch))) else batch.rows(torch.tensor(chosen))
            result[chosen] = self._pass(stem, part, [counts[row] for row in chosen], begins)
        return result

    def _of_bytes(self, colours: Any) -> "_Patches":
        """Returns the stem that takes bytes; made when first asked for."""
        scale, shift = colours.colours
        key = (*scale.tolist(), *shift.tolist())
        if key not in self.stems:
            assert isinstance(self.stem, _Patches)  # batch_of gives bytes to no other
            self.stems[key] = self.stem.of_bytes(scale, shift)
        return self.stems[key]

    def _pass(self, stem: Any, batch: Batch, counts: Sequence[int], begins: bool) -> Float[Tensor, "B D"]:
        """Returns the vectors of present rows, which rise in length, ``counts`` tokens each.

        Where ``begins`` says so, ids with which all rows begin are computed once: each token sees only those before it.
        """
        if batch.values.dim() == 2:  # symbols: what stands behind the longest row need not be looked up
            width = int(batch.mask.any(dim=0).nonzero().amax()) + 1
            batch = Batch(batch.values[:, :width], batch.mask[:, :width])
        x, grid = stem(batch)
        x, mask = x + self.positions(grid), batch.mask
        if self.first_token is not None:
            x = torch.cat((self.first_token.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
            mask = F.pad(mask, (1, 0), value=True)
        before = passes.same(batch.values[:, : counts[0] - 1]) if begins else 0
        if before:
            x = torch.cat((x[0, :before], x[:, before:][mask[:, before:]]))
        else:
            x = x.flatten(0, 1) if sum(counts) == mask.numel() else x[mask]
        if self.norm_in is not None:
            x = self.norm_in(x)
        tokens, groups = len(x), passes.grouped(counts, before)
        x = passes.filled(x.to(self.residual))
        for block in self.blocks[: -1 if self.one else None]:
            x = block(x, groups)
        if self.one:
            ends = before + (torch.tensor(counts, device=x.device) - before).cumsum(0)
            chosen = ends - 1 if self.pool.kind == "last" else F.pad(ends[:-1], (1, 0))
            return _normed(self.blocks[-1].ending(x, groups, chosen), self.norm).float()
        x = _normed(x[:tokens], self.norm).float()
        if len(x) == mask.numel():
            x = x.view(*mask.shape, -1)
            return self.pool(x, mask)  # type: ignore[no-any-return]
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
        return y.view(size[0], -1, y.shape[-1]), tuple(size[1:])


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
        parts: list[Tensor] = []
        begin: tuple[Tensor, ...] = ()
        for rows in groups:
            q, k, v = self._heads(qkv, rows, 3, begin)
            begin = begin or (k, v)
            parts.append(attend(q, k, v, self.causal))
        return self._rest(x, _as_many(parts, len(x)))

    def ending(self, x: Float[Tensor, "M D"], groups: Sequence[Rows], chosen: Tensor) -> Float[Tensor, "B D"]:
        """Returns one token of each row after this layer: those at ``chosen``, which see their whole row."""
        normed = _normed(x, self.norm_self)
        both = self.kv(normed)
        chosen = F.pad(chosen, (0, -len(chosen) % STEP))  # a single row would be summed in another order, too
        q, x = self.q(normed[chosen]), x[chosen]
        parts, row = [], 0
        begin: tuple[Tensor, ...] = ()
        for rows in groups:
            k, v = self._heads(both, rows, 2, begin)
            begin = begin or (k, v)
            if rows.before == groups[-1].before:  # else these tokens belong to all rows and are no row themselves
                asked = q[row : row + rows.count].view(rows.count, 1, self.heads, -1).transpose(1, 2)
                parts.append(attend(asked, k, v, False))
                row += rows.count
        return self._rest(x, _as_many(parts, len(x)))[:row]

    def _heads(self, x: Float[Tensor, "M D"], rows: Rows, parts: int, begin: Sequence[Tensor]) -> list[Tensor]:
        """Returns queries (of three parts), keys and values of some rows, ``(B, H, T, E)`` each.

        Keys and values begin with those of the tokens before all rows, ``begin``, where the rows see them.
        """
        own = x[rows.start : rows.start + rows.count * rows.length]
        *q, k, v = own.view(rows.count, rows.length, parts, self.heads, -1).permute(2, 0, 3, 1, 4)
        if rows.before:
            k, v = (torch.cat((a.expand(rows.count, -1, -1, -1), b), 2) for a, b in zip(begin, (k, v), strict=True))
        return [*q, k, v]

    def _rest(self, x: Float[Tensor, "M D"], gathered: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        x = self.out(gathered, x)
        return self.mlp_out(self.mlp_in(_normed(x, self.norm_mlp)), x)


def attend(
    q: Float[Tensor, "B H Q E"], k: Float[Tensor, "B H T E"], v: Float[Tensor, "B H T E"], causal: bool
) -> Float[Tensor, "M D"]:
    """Returns what each query gathers, heads side by side, row behind row.

    Args:
        q: queries; fewer than there are keys are the last ones.
        k: keys.
        v: values.
        causal: each query sees only the keys up to its own place.
    """
    asked, places = q.shape[2], k.shape[2]
    if q.dtype != torch.bfloat16 or q.device.type != "cpu" or places > SHORT:
        seen = None
        if causal and asked < places:
            seen = torch.ones(asked, places, dtype=torch.bool, device=q.device).tril_(places - asked)
        whole = causal and seen is None
        gathered = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=whole)
        return gathered.transpose(1, 2).flatten(2).flatten(0, 1)
    size = (len(q) * q.shape[1], -1, q.shape[-1])
    hidden = q.new_zeros(1, 1, 1)
    if causal:
        hidden = q.new_full((1, asked, places), -torch.inf).triu_(1 + places - asked)
    flat_q, flat_k, flat_v = (t.reshape(size) for t in (q, k, v))
    scores = torch.baddbmm(hidden, flat_q, flat_k.transpose(1, 2), beta=int(causal), alpha=q.shape[-1] ** -0.5)
    gathered = torch.bmm(scores.softmax(dim=-1), flat_v)
    return gathered.view(q.shape).transpose(1, 2).flatten(2).flatten(0, 1)


def _as_many(parts: Sequence[Tensor], count: int) -> Float[Tensor, "M D"]:
    """Returns parts ``(P, D)`` behind each other, with zeros behind them up to ``count``."""
    missing = count - sum(map(len, parts))
    if missing:
        parts = [*parts, parts[0].new_zeros(missing, parts[0].shape[1])]
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Returns the layer normalisation in the precision of ``x``."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _is_text(batch: Batch) -> bool:
    """Returns whether the batch holds ids, with all padding behind them."""
    symbols = batch.values.dim() == 2 and not batch.values.is_floating_point()
    return symbols and bool((batch.mask[:, 1:] <= batch.mask[:, :-1]).all())
