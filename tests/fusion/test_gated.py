"""Gates share one among the fields that are there."""

import numpy as np
import torch

from intermodal.fusion import FusionConfig
from intermodal.fusion.gated import build
from intermodal.types import Encoded

WIDTHS = {"a": 4, "b": 3, "c": 5}


def given(present: torch.Tensor) -> dict[str, Encoded]:
    made = {}
    for i, (name, width) in enumerate(WIDTHS.items()):
        rows = torch.randn(len(present), width) * present[:, i, None]
        made[name] = Encoded(rows[:, None], present[:, i, None], rows)
    return made


@torch.no_grad()
def test_shares_add_up_to_one_over_those_that_are_there() -> None:
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    made = build(FusionConfig("gated", 8), WIDTHS)
    shares = made.shares(made.fields(given(present)))
    assert (shares[~present] == 0).all()
    torch.testing.assert_close(shares.sum(dim=1), present.any(dim=1).float()[:, None].expand(-1, 8))
    assert (shares[2, 1] == 1).all()


@torch.no_grad()
def test_it_is_the_paper_s_unit_written_as_a_loop() -> None:
    present = torch.tensor([[True, False, True]])
    made = build(FusionConfig("gated", 8), WIDTHS)
    with torch.no_grad():
        made.favour.normal_()
    fields = given(present)
    x = {n: made.fields.maps[n](fields[n].pooled)[0] for n in ("a", "c")}
    scores = {}
    for i, n in ((0, "a"), (2, "c")):
        scores[n] = made.favour[i].numpy().copy()
        for m in ("a", "c"):
            scores[n] += made.gates[m](x[m]).view(3, 8)[i].numpy()
    total = np.exp(scores["a"]) + np.exp(scores["c"])
    mixed = sum(np.exp(scores[n]) / total * np.tanh(made.says[n](x[n]).numpy()) for n in ("a", "c"))
    expected = (mixed - mixed.mean()) / np.sqrt(mixed.var() + 1e-5)
    np.testing.assert_allclose(made(fields).pooled[0].numpy(), expected, rtol=1e-4, atol=1e-5)
