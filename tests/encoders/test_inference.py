"""The prepared form of an encoder: the vectors of the encoder itself, whatever stands beside an item, and never old."""

import copy
import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from intermodal.encoders import inference, passes
from intermodal.encoders.inference import attend, batch_of, pooled, prepared
from intermodal.encoders.recurrent import RecurrentEncoder
from intermodal.encoders.transformer import TransformerEncoder
from intermodal.errors import Unsupported
from intermodal.layers import linear
from intermodal.layers.block import Block, Norms
from intermodal.layers.pooling import POOLINGS, Pooling
from intermodal.layers.positions import Positions
from intermodal.layers.stem import ConvolutionStem, PatchStem, SymbolStem
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.types import Batch, Grid, Symbols

WIDTH = 64
COSINE = {"fp32": 1 - 1e-6, "bf16": 0.999, "int8": 0.995}
"""With the encoder's own vectors in fp32, at least; the numbers of int8 are for random weights of this small width."""
BESIDE = {"fp32": 1e-5, "bf16": 1e-4, "int8": 1e-4}
"""How much a vector may differ by what stands beside its item."""


def encoder(kind: str = "text", pool: str = "mean", activation: str = "gelu", **changes: bool) -> TransformerEncoder:
    torch.manual_seed(0)
    if kind == "text":
        stem, sizes = SymbolStem(Symbols(50), WIDTH), (24,)
    elif kind == "image":
        stem, sizes = PatchStem(Grid(2, 3, (8, 8)), WIDTH), (4, 4)
    else:
        stem, sizes = ConvolutionStem(Grid(2, 3, (8, 8)), WIDTH, (4, 4), (16, 32)), (4, 4)
    blocks = [Block(WIDTH, 4, activation=activation) for _ in range(3)]
    made = TransformerEncoder(stem, Positions(WIDTH, sizes), blocks, Pooling(pool, WIDTH, 4), **changes)
    for p in made.parameters():  # no gain of 1 and no bias of 0 that could be forgotten
        p.data += 0.1 * torch.randn(p.shape)
    return made.eval()


def texts() -> Batch:
    lengths = torch.tensor([5, 0, 9, 9, 1, 24, 7, 5])
    mask = torch.arange(24) < lengths[:, None]
    return Batch(torch.randint(0, 50, mask.shape, generator=torch.Generator().manual_seed(2)), mask)


def pictures() -> Batch:
    mask = torch.ones(5, 16, dtype=torch.bool)
    mask[2] = False
    return Batch(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2)), mask)


def own(made: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        found: Tensor = made(batch).pooled
    return found


def check(made: nn.Module, batch: Batch, precision: str) -> None:
    expected, found = own(made, batch), pooled(made, batch, precision)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    here = batch.present
    assert bool((found[~here] == 0).all())
    assert float(F.cosine_similarity(found[here], expected[here]).min()) >= COSINE[precision]
    if precision == "fp32":
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for i in range(len(batch)):
        alone = pooled(made, batch.rows(torch.tensor([i])), precision)[0]
        assert float((alone - found[i]).abs().max()) <= BESIDE[precision]


@pytest.mark.parametrize("precision", COSINE)
@pytest.mark.parametrize("pool", POOLINGS)
@pytest.mark.parametrize("kind", ["text", "image", "convolution"])
def test_vectors_are_those_of_the_encoder_alone_and_in_a_batch(kind: str, pool: str, precision: str) -> None:
    batch = texts() if kind == "text" else pictures()
    for causal, first in itertools.product((False, True), repeat=2):
        activation = "quick_gelu" if causal else "gelu"
        check(encoder(kind, pool, activation, causal=causal, class_token=first, norm_first=first), batch, precision)


@pytest.mark.parametrize("precision", COSINE)
def test_padding_may_stand_anywhere(precision: str) -> None:
    batch = texts()
    scattered = Batch(batch.values, batch.mask & (torch.arange(24) % 3 != 1))
    for pool in ("mean", "last"):
        check(encoder(pool=pool), scattered, precision)


@pytest.mark.parametrize("precision", COSINE)
def test_few_tokens_at_a_time_give_the_same(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, batch = encoder(pool="last", causal=True), texts()
    whole = pooled(made, batch, precision)
    monkeypatch.setattr(passes, "TOKENS", 10)
    assert float((pooled(made, batch, precision) - whole).abs().max()) <= BESIDE[precision]


@pytest.mark.parametrize("precision", COSINE)
@pytest.mark.parametrize("shared", [1, 4])
def test_what_all_texts_begin_with_is_computed_once(
    shared: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = texts()
    batch.mask[:, : shared + 1] = batch.mask.any(dim=1, keepdim=True)  # none ends within the beginning
    batch.values[:, :shared] = torch.arange(shared)
    seen: list[int] = []
    groups = passes.grouped

    def spy(counts: list[int], before: int) -> list[passes.Rows]:
        seen.append(before)
        return groups(counts, before)

    monkeypatch.setattr(passes, "grouped", spy)
    made = encoder(pool="last", causal=True)
    check(made, batch, precision)
    assert seen[0] == shared
    assert set(seen[1:]) == {0}  # a text alone shares nothing
    check(
        encoder(pool="last", causal=True),
        Batch(batch.values[3:4].repeat(5, 1), batch.mask[3:4].repeat(5, 1)),
        precision,
    )
    for pool, causal in (("last", False), ("mean", True), ("first", True)):
        seen.clear()
        check(encoder(pool=pool, causal=causal), batch, precision)
        assert set(seen) == {0}


@pytest.mark.parametrize("precision", COSINE)
def test_texts_of_which_many_begin_alike_go_by_themselves(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [[1, 2, 3, 4, 5], [1, 9, 3, 4], [1]]  # of the last too few begin with the same four ids
    rows = [[*kinds[i % 3], 20 + i, *([30] * (i % 4))] for i in range(12)]
    mask = torch.arange(10) < torch.tensor([len(row) for row in rows])[:, None]
    batch = Batch(torch.tensor([row + [0] * (10 - len(row)) for row in rows]), mask)
    monkeypatch.setattr(passes, "MANY", 3)
    seen: list[tuple[int, int]] = []
    groups = passes.grouped

    def spy(counts: list[int], before: int) -> list[passes.Rows]:
        seen.append((len(counts), before))
        return groups(counts, before)

    monkeypatch.setattr(passes, "grouped", spy)
    check(encoder(pool="last", causal=True), batch, precision)
    assert seen[:3] == [(4, 5), (4, 4), (4, 1)]


def test_nothing_but_absent_rows_is_all_zero() -> None:
    batch = Batch(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3, dtype=torch.bool))
    assert pooled(encoder(), batch, "fp32").tolist() == [[0.0] * WIDTH] * 2


@pytest.mark.parametrize("precision", COSINE)
def test_without_the_private_entry_points_the_vectors_are_the_same(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, batch = encoder(pool="last"), texts()
    fast = pooled(made, batch, precision)
    inference._prepared.clear()
    monkeypatch.setattr(linear, "works", lambda _: False)
    plain = pooled(made, batch, precision)
    assert float(F.cosine_similarity(fast, plain)[batch.present].min()) >= COSINE[precision]
    check(made, batch, precision)


@pytest.mark.parametrize("precision", COSINE)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_short_and_long_rows(causal: bool, precision: str) -> None:
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    for length in (1, 7, inference.SHORT, inference.SHORT + 1):
        q, k, v = (torch.randn(2, 3, length, 16) for _ in range(3))
        every = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        for last in {1, (length + 1) // 2, length}:  # so many queries, the last ones
            expected = every[:, :, -last:].transpose(1, 2).reshape(-1, 48)
            found = attend(*(t.to(dtype) for t in (q[:, :, -last:], k, v)), causal).float()
            assert float((found - expected).norm() / expected.norm()) < (1e-5 if precision == "fp32" else 2e-2)


# ---- Bytes


@pytest.mark.parametrize("precision", COSINE)
def test_bytes_give_what_the_normalised_picture_gives(precision: str) -> None:
    make = ImagePreprocessor(32, 32, 8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    rng = np.random.default_rng(0)
    items = [Image(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(4)]
    made = encoder("image", "first", class_token=True)
    batch = batch_of(made, make, items)
    assert batch.values.dtype == torch.uint8
    expected, found = own(made, make(items)), pooled(made, batch, precision, make)
    assert float(F.cosine_similarity(found, expected).min()) >= COSINE[precision]
    if precision == "fp32":
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    other = ImagePreprocessor(32, 32, 8)  # other colours of the same bytes
    again = pooled(made, batch, precision, other)
    assert float(F.cosine_similarity(again, own(made, other(items))).min()) >= COSINE[precision]


def test_what_cannot_take_bytes_is_not_given_them() -> None:
    items = [Image(np.zeros((32, 32, 3), np.uint8))]
    make = ImagePreprocessor(32, 32, 8)
    assert batch_of(encoder("convolution"), make, items).values.dtype == torch.float32
    assert batch_of(nn.Identity(), make, items).values.dtype == torch.float32


# ---- Never old


def test_a_changed_weight_changes_the_vectors() -> None:
    made, batch = encoder(pool="last"), texts()

    def fresh() -> None:
        for precision in COSINE:
            check(made, batch, precision)

    fresh()
    with torch.no_grad():
        made.blocks[1].mlp_in.weight.mul_(2.0)
    fresh()
    for fused in (False, True):  # fused, it writes without being counted
        optimizer = torch.optim.AdamW(made.parameters(), lr=0.1, fused=fused)
        made.train()(batch).pooled.square().sum().backward()
        optimizer.step()
        made.eval()
        fresh()
    made.blocks[0].mlp_in.weight.data.mul_(2.0)
    fresh()
    made.load_state_dict({k: 1.1 * v for k, v in made.state_dict().items()})
    fresh()
    made.norm.bias = nn.Parameter(torch.ones(WIDTH))
    fresh()
    made.blocks[0].mlp_out.weight.data = torch.randn(WIDTH, 4 * WIDTH)
    fresh()


def test_what_was_prepared_is_kept_while_nothing_changes_and_ends_with_the_encoder() -> None:
    made = encoder()
    first = prepared(made, "bf16")
    assert prepared(made, "bf16") is first
    assert prepared(made, "fp32") is not first
    assert prepared(copy.deepcopy(made), "bf16") is not first
    with torch.no_grad():
        made.norm.weight.add_(1)
    assert prepared(made, "bf16") is not first
    assert len(inference._prepared[made]) == 1  # the old one in fp32 is gone too
    gone = weakref.ref(made)
    del made, first
    gc.collect()
    assert gone() is None


def test_training_goes_on_as_if_nothing_had_been_prepared() -> None:
    made, other, batch = encoder(), encoder(), texts()
    keys = list(made.state_dict())
    pooled(made, batch, "int8")
    assert list(made.state_dict()) == keys
    for each in (made, other):
        each.train()(batch).pooled.sum().backward()
    for a, b in zip(made.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_an_encoder_in_training_mode_gives_what_it_gives_in_eval_mode() -> None:
    batch = texts()
    blocks = [Block(WIDTH, 4, dropout=0.5)]
    made = TransformerEncoder(SymbolStem(Symbols(50), WIDTH), Positions(WIDTH, (24,)), blocks, Pooling("mean", WIDTH))
    torch.testing.assert_close(pooled(made.train(), batch, "fp32"), own(made.eval(), batch), rtol=1e-5, atol=1e-5)


# ---- What has no form of its own


@pytest.mark.parametrize("precision", COSINE)
def test_other_encoders_run_as_they_are(precision: str) -> None:
    torch.manual_seed(0)
    made = RecurrentEncoder(SymbolStem(Symbols(50), WIDTH), WIDTH, 1).eval()
    found, expected = pooled(made, texts(), precision), own(made, texts())
    here = texts().present
    assert found.dtype == torch.float32
    assert float(F.cosine_similarity(found[here], expected[here]).min()) >= 0.999


def test_blocks_that_normalise_after_run_as_they_are() -> None:
    blocks = [Block(WIDTH, 4, norms=Norms(after=True))]
    made = TransformerEncoder(SymbolStem(Symbols(50), WIDTH), Positions(WIDTH, (24,)), blocks, Pooling("mean", WIDTH))
    torch.testing.assert_close(pooled(made.eval(), texts(), "fp32"), own(made, texts()), rtol=1e-5, atol=1e-5)


def test_int8_is_refused_where_it_cannot_be_computed() -> None:
    batch = texts().to("meta")
    with pytest.raises(Unsupported, match="int8 is computed on a CPU alone, not on meta; use bf16 or fp32 there"):
        pooled(encoder().to("meta"), batch, "int8")
