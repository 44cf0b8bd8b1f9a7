"""What every form keeps: shapes, absent fields that never enter, samples that do not see each other, gradients."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from intermodal import catalog
from intermodal.errors import InvalidValue, UnknownName
from intermodal.fusion import FORMS, FusionConfig, Projected, as_encoded, cleared, vectors
from intermodal.types import Encoded

WIDTHS = {"image": 6, "audio": 8, "text": 5}
CONFIG = FusionConfig(width=16, depth=2, heads=2, rank=3, inner=4)
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=torch.bool)


def fields(seed: int = 0, present: torch.Tensor = PRESENT) -> dict[str, Encoded]:
    """Returns five rows of three fields, of 2 to 4 tokens, some of them padding."""
    draws = torch.Generator().manual_seed(seed)
    made = {}
    for i, (name, width) in enumerate(WIDTHS.items()):
        tokens = torch.randn(len(present), 2 + i, width, generator=draws)
        mask = present[:, i, None].expand(-1, 2 + i).clone()
        mask[0, -1] = False
        pooled = (tokens * mask[..., None]).sum(dim=1)
        made[name] = Encoded(tokens, mask, pooled)
    return made


def wild(encoded: Mapping[str, Encoded], value: float) -> dict[str, Encoded]:
    """Returns the same fields with ``value`` wherever nothing is real."""
    return {
        name: Encoded(
            one.tokens.masked_fill(~one.mask[..., None], value),
            one.mask,
            one.pooled.masked_fill(~one.mask.any(dim=1, keepdim=True), value),
        )
        for name, one in encoded.items()
    }


def form(name: str, widths: Mapping[str, int] = WIDTHS, **changes: Any) -> Any:
    torch.manual_seed(0)
    return catalog.module("fusion", name).build(dataclasses.replace(CONFIG, form=name, **changes), widths)


every_form = pytest.mark.parametrize(
    ("name", "placeholder"), [(name, placeholder) for name in FORMS for placeholder in (False, True)]
)


def test_the_forms_are_the_files() -> None:
    assert {*FORMS, "late"} == set(catalog.names("fusion"))


@every_form
@torch.no_grad()
def test_a_form_gives_tokens_a_mask_and_a_vector(name: str, placeholder: bool) -> None:
    made = form(name, placeholder=placeholder)
    fused = made(fields())
    assert fused.pooled.shape == (5, made.width)
    assert fused.tokens.shape == (*fused.mask.shape, made.width)
    assert fused.pooled.isfinite().all()
    assert len(fused.pooled[:4].unique(dim=0)) == 4  # not one vector for all


@every_form
@pytest.mark.parametrize("value", [0.0, 1e6, float("nan"), float("inf")])
@torch.no_grad()
def test_what_stands_in_absent_rows_changes_nothing(name: str, placeholder: bool, value: float) -> None:
    made = form(name, placeholder=placeholder)
    expected, found = made(fields()), made(wild(fields(), value))
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=0, atol=1e-6)
    real = expected.mask
    torch.testing.assert_close(found.tokens[real], expected.tokens[real], rtol=0, atol=1e-6)


@every_form
@torch.no_grad()
def test_a_row_is_the_same_alone_and_among_others(name: str, placeholder: bool) -> None:
    made = form(name, placeholder=placeholder)
    whole = made(fields())
    for i in range(5):
        alone = made({n: Encoded(e.tokens[[i]], e.mask[[i]], e.pooled[[i]]) for n, e in fields().items()})
        torch.testing.assert_close(alone.pooled[0], whole.pooled[i], rtol=0, atol=1e-5)


@every_form
@torch.no_grad()
def test_every_field_that_is_there_counts(name: str, placeholder: bool) -> None:
    made, before, other = form(name, placeholder=placeholder), fields(), fields(seed=1)
    for i, field in enumerate(WIDTHS):
        change = (made({**before, field: other[field]}).pooled - made(before).pooled).abs().amax(dim=1)
        assert (change[PRESENT[:, i]] > 1e-5).all()
        assert (change[~PRESENT[:, i]] < 1e-6).all()


@torch.no_grad()
@pytest.mark.parametrize("name", FORMS)
def test_zeros_that_are_there_are_not_what_an_absent_field_is(name: str) -> None:
    made, given = form(name), fields()
    image = given["image"]
    there = Encoded(torch.zeros_like(image.tokens), torch.ones_like(image.mask), torch.zeros_like(image.pooled))
    gone = Encoded(there.tokens, torch.zeros_like(image.mask), there.pooled)
    a, b = made({**given, "image": there}), made({**given, "image": gone})
    assert ((a.pooled - b.pooled).abs().amax(dim=1) > 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("name", FORMS)
def test_a_placeholder_stands_where_a_field_is_absent_and_only_there(name: str) -> None:
    made = form(name, placeholder=True)
    before = made(fields()).pooled
    made.fields.placeholders["image"] += torch.linspace(-1.0, 1.0, 16)
    change = (made(fields()).pooled - before).abs().amax(dim=1)
    assert (change[~PRESENT[:, 0]] > 1e-4).all()
    assert (change[PRESENT[:, 0]] == 0).all()


@every_form
def test_every_weight_gets_a_gradient(name: str, placeholder: bool) -> None:
    made = form(name, placeholder=placeholder)
    made(fields()).pooled.square().mul(torch.arange(16)).sum().backward()
    without = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    still = [n for n, p in made.named_parameters() if not p.grad.any() and "qkv.bias" not in n and "kv.bias" not in n]
    assert not still


@torch.no_grad()
@pytest.mark.parametrize("name", FORMS)
def test_one_field_can_be_fused_too(name: str) -> None:
    made = form(name, {"audio": 8})
    assert made({"audio": fields()["audio"]}).pooled.isfinite().all()


def test_projected_clears_what_is_not_real_and_keeps_the_order() -> None:
    parts = Projected(WIDTHS, 4)(wild(fields(), float("nan")))
    assert list(parts) == list(WIDTHS)
    for part in parts.values():
        assert (part.tokens[~part.mask] == 0).all()
        assert part.tokens.isfinite().all()
    each, present = vectors(parts)
    assert each.shape == (5, 3, 4)
    assert torch.equal(present, PRESENT)
    assert (each[~present] == 0).all()


def test_cleared_keeps_what_is_real() -> None:
    before = fields()["text"]
    after = cleared(before)
    assert torch.equal(after.tokens[after.mask], before.tokens[before.mask])
    assert torch.equal(as_encoded(after.pooled).tokens[:, 0], before.pooled * before.mask.any(dim=1, keepdim=True))


@pytest.mark.parametrize(("change", "error"), [({"form": "middle"}, UnknownName), ({"width": 0}, InvalidValue)])
def test_a_config_that_cannot_be_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        FusionConfig(**change)


def test_no_field_at_all_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one field"):
        Projected({}, 8)
