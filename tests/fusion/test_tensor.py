"""The products are all products, and the low-rank form is the full one with a weight of low rank."""

import itertools

import numpy as np
import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.fusion import FusionConfig
from intermodal.fusion.tensor import FullTensor, LowRank, build, outer
from intermodal.types import Encoded


def numbers(count: int, inner: int, rows: int = 4) -> list[torch.Tensor]:
    """Returns numbers of some fields, each with its 1 behind."""
    return [torch.cat((torch.randn(rows, inner), torch.ones(rows, 1)), dim=1) for _ in range(count)]


def test_outer_is_every_product_of_one_number_each() -> None:
    parts = numbers(3, 2)
    expected = np.array(
        [[a * b * c for a, b, c in itertools.product(*(p[i].numpy() for p in parts))] for i in range(4)]
    )
    np.testing.assert_allclose(outer(parts).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("rank", [1, 4])
def test_low_rank_is_the_full_product_with_its_weight(count: int, rank: int) -> None:
    torch.manual_seed(count)
    low = LowRank(count, 3, 5, rank)
    torch.nn.init.normal_(low.bias)
    full = FullTensor(count, 3, 5)
    with torch.no_grad():
        full.out.weight.copy_(low.full())
        full.out.bias.copy_(low.bias)
    parts = numbers(count, 3)
    torch.testing.assert_close(low(parts), full(parts), rtol=1e-4, atol=1e-5)
    assert low(parts).std() > 0.01


@torch.no_grad()
def test_an_absent_field_leaves_the_tensor_of_the_others() -> None:
    made = build(FusionConfig("tensor", 8, rank=0, inner=3), {"a": 4, "b": 4})
    a, gone = torch.randn(2, 4), torch.zeros(2, 4)
    fused = made(
        {
            "a": Encoded(a[:, None], torch.ones(2, 1, dtype=torch.bool), a),
            "b": Encoded(gone[:, None], torch.zeros(2, 1, dtype=torch.bool), gone),
        }
    )
    own = torch.nn.functional.gelu(made.fields.maps["a"](a))
    own = torch.cat((made.narrow["a"](own).tanh(), torch.ones(2, 1)), dim=1)
    weight = made.products.out.weight.view(8, 4, 4)[:, :, 3]  # type: ignore[union-attr, operator]
    expected = made.norm(own @ weight.T + made.products.out.bias)  # type: ignore[union-attr]
    torch.testing.assert_close(fused.pooled, expected)


def test_a_product_that_would_be_too_large_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"1,419,857 entries.*give a rank"):
        build(FusionConfig("tensor", 8, rank=0, inner=16), dict.fromkeys("abcde", 4))
