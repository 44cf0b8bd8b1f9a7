"""VisualBERT: one stream; what fields decide, what masks keep apart, what is learnt, answered and kept."""

from pathlib import Path
from typing import Any

import torch

from intermodal.decoders.asking import Roles
from intermodal.systems import visualbert
from intermodal.testing import batches
from tests import grounded


def make(roles: Roles = grounded.BOTH, seed: int = 0, **changes: Any) -> visualbert.VisualBert:
    torch.manual_seed(seed)
    numbers: dict[str, Any] = {"grid": (2, 2), "width": 32, "depth": 2, "heads": 2, "answers": grounded.ANSWERS}
    numbers |= {"image": grounded.IMAGE, "text": grounded.TEXT, **changes}
    return visualbert.build(visualbert.Config(roles, **numbers))


def test_fields_decide_the_losses() -> None:
    grounded.check_losses(make, {"words", "matching"})


def test_what_is_absent_changes_nothing() -> None:
    for after in (False, True):
        grounded.check_absent(make(norm_after=after))


def test_eight_samples_are_learnt(tmp_path: Path) -> None:
    grounded.check_learns(make, tmp_path)


def test_what_cannot_be_is_refused() -> None:
    grounded.check_refuses(make, visualbert)
    grounded.check_sizes(visualbert, (86, 92))


def test_words_and_regions_see_each_other() -> None:
    model = make().eval()
    batch = batches(model, grounded.SAMPLES)
    with torch.no_grad():
        own = model.read(batch["text"], batch["image"]).tokens
        other = model.read(batch["text"], batch["image"].rows(torch.arange(7, -1, -1))).tokens
        hidden = torch.zeros_like(batch["text"].mask)
        hidden[:, 2] = True
        blank = model.read(batch["text"], batch["image"], hidden).tokens
    words = batch["text"].mask.shape[1]
    assert own.shape[1] == words + 4
    assert float((own - other)[:, :words].abs().amax(dim=(1, 2)).min()) > 1e-4
    assert float((own - blank)[:, words:].abs().amax(dim=(1, 2)).min()) > 1e-4
