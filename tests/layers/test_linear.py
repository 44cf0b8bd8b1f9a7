"""A linear layer's forms for inference: each gives what torch's own product gives, row by row, or is not used."""

import logging

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from intermodal.layers import linear
from intermodal.layers.linear import ACTIVATIONS, Int8, Packed, Plain, available, product, rows_to_bytes, works

NEAR = {"fp32": 1e-6, "bf16": 1e-2, "int8": 3e-2}
"""How far a product of standard normal numbers may be from the exact one, as a share of it."""


@pytest.fixture
def _untried() -> None:
    works.cache_clear()
    yield
    works.cache_clear()


def layer(outputs: int = 96, inputs: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(outputs, inputs, generator=generator), torch.randn(outputs, generator=generator)


def share(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("precision", NEAR)
def test_every_form_gives_the_exact_product_nearly(precision: str, activation: str) -> None:
    precision = available(precision, torch.device("cpu"))  # a processor without products of bytes has no int8
    weight, bias = layer()
    x = torch.randn(37, 64)
    exact = ACTIVATIONS[activation](F.linear(x.double(), weight.double(), bias.double()))
    given = x.bfloat16() if precision == "bf16" else x
    assert share(product(weight, bias, precision, activation)(given), exact) < NEAR[precision]
    if precision != "int8":
        plain = Plain(weight.to(given.dtype), bias.to(given.dtype), activation)
        assert share(plain(given), exact) < NEAR[precision]


@pytest.mark.parametrize("precision", NEAR)
def test_a_residual_is_added_in_its_own_precision_and_stays_as_it_was(precision: str) -> None:
    precision = available(precision, torch.device("cpu"))
    weight, bias = layer()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x, residual = torch.randn(5, 64).to(dtype), torch.randn(5, 96).to(dtype)
    before = residual.clone()
    found = product(weight, bias, precision)(x, residual)
    exact = F.linear(x.double(), weight.double(), bias.double()) + residual.double()
    assert found.dtype == dtype
    assert share(found, exact) < NEAR[precision]
    assert torch.equal(residual, before)


def test_without_a_bias_none_is_added() -> None:
    weight, _ = layer()
    x = torch.randn(3, 64)
    torch.testing.assert_close(product(weight, None, "fp32")(x), x @ weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_in_bytes_are_half_a_step_away_at_most_and_never_run_over(dtype: torch.dtype) -> None:
    scales = torch.logspace(-3, 3, 200)[:, None]
    x = (torch.randn(200, 768) * scales).to(dtype)
    x[7] = 0
    steps, worth = rows_to_bytes(x)
    assert steps.dtype == torch.uint8
    back = (steps.float() - 128) * worth
    slack = 0.51 if dtype == torch.float32 else 0.76  # bf16 knows halves of a step at the ends of the row
    assert bool(((back - x.float()).abs() <= slack * worth + 1e-9).all())
    assert bool((back[7] == 0).all())


def test_in_int8_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    weight, bias = layer()
    if not works("int8"):
        pytest.skip("this processor does not multiply bytes")
    form = Int8(weight, bias, "gelu")
    x = torch.randn(9, 64)
    wild = torch.cat((x[:4], 1000 * torch.randn(5, 64)))
    assert torch.equal(form(x)[:4], form(wild)[:4])
    assert torch.equal(form(x)[:1], form(x[:1]))


def test_bytes_as_they_are_lose_nothing_but_the_rounding_of_the_weights() -> None:
    if not works("int8"):
        pytest.skip("this processor does not multiply bytes")
    _, bias = layer()
    steps = torch.randint(-127, 128, (96, 64)).float()
    steps[:, 0] = 127.0  # the largest of each output is one of 127 steps: weights that are exact in int8
    x = torch.randint(0, 256, (11, 64), dtype=torch.uint8)
    torch.testing.assert_close(Int8(steps / 64, bias).of_bytes(x), F.linear(x.float(), steps / 64, bias))


@pytest.mark.usefixtures("_untried")
@pytest.mark.parametrize("precision", NEAR)
def test_a_private_entry_point_that_is_gone_is_told_and_done_without(
    precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_prepack'")

    monkeypatch.setattr(Packed, "__init__", gone)
    monkeypatch.setattr(Int8, "__init__", gone)
    weight, bias = layer()
    with caplog.at_level(logging.WARNING):
        form = product(weight, bias, precision)
        product(weight, bias, precision)
    assert isinstance(form, Plain)
    told = [r.message for r in caplog.records if f"products in {precision} are computed by torch's own" in r.message]
    assert len(told) == 1
    x = torch.randn(4, 64).to(form.weight.dtype)
    assert share(form(x), F.linear(x.double(), weight.double(), bias.double())) < NEAR["bf16"]


@pytest.mark.usefixtures("_untried")
def test_a_private_entry_point_that_is_wrong_or_far_too_slow_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Packed, "__call__", lambda self, x, residual=None: x.new_zeros(len(x), len(self.bias)))
        assert not works("bf16")
        assert "differs" in caplog.text
    works.cache_clear()
    monkeypatch.setattr(linear, "_seconds", lambda run: 1.0)
    assert not works("bf16")
    assert "far too slow" in caplog.text


@pytest.mark.usefixtures("_untried")
@pytest.mark.parametrize(
    ("precision", "ratio", "used"), [("fp32", 1.2, False), ("bf16", 1.2, True), ("bf16", 3, False)]
)
def test_the_faster_library_is_used_as_measured(
    precision: str, ratio: float, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([1e-4] * 3 + [1e-3 * ratio, 1e-3] * 5)
    monkeypatch.setattr(linear, "_seconds", lambda run: next(calls))
    assert works(precision) is used
