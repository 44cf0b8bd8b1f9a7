"""ViLBERT: two streams; what fields decide, what masks keep apart, what is learnt, answered and kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.config import parts_of
from intermodal.decoders.asking import Roles
from intermodal.errors import InvalidValue
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.systems import vilbert
from intermodal.systems.vilbert import Stream
from intermodal.testing import batches
from tests import grounded


def make(roles: Roles = grounded.BOTH, seed: int = 0, **changes: Any) -> vilbert.Vilbert:
    torch.manual_seed(seed)
    numbers: dict[str, Any] = {"words": Stream(32, 2), "regions": Stream(24, 3), "pooled": 40, "together": 1}
    numbers |= {"answers": grounded.ANSWERS, "levels": 3, "image": grounded.IMAGE, "text": grounded.TEXT, **changes}
    return vilbert.build(vilbert.Config(roles, **numbers))


def test_fields_decide_the_losses() -> None:
    grounded.check_losses(make, {"words", "regions", "matching"})


def test_what_is_absent_changes_nothing() -> None:
    for after in (False, True):
        grounded.check_absent(make(norm_after=after))


def test_eight_samples_are_learnt(tmp_path: Path) -> None:
    grounded.check_learns(make, tmp_path)


def test_what_cannot_be_is_refused() -> None:
    grounded.check_refuses(make, vilbert)
    grounded.check_sizes(vilbert, (190, 260))
    with pytest.raises(InvalidValue, match="reads pictures, not timeseries"):
        make(image=TimeSeriesPreprocessor(9))
    with pytest.raises(InvalidValue, match="together 0"):
        make(together=0)
    with pytest.raises(InvalidValue, match="heads of at least 1"):
        Stream(32, 0)
    assert parts_of(make().config) == {}  # a stream is no model that could be taken in


def test_streams_of_other_widths_see_each_other() -> None:
    model = make(together=2).eval()
    batch = batches(model, grounded.SAMPLES)
    with torch.no_grad():
        own = model.read(batch["text"], batch["image"])
        turned = model.read(batch["text"], batch["image"].rows(torch.arange(7, -1, -1)))
        retold = model.read(batch["text"].rows(torch.arange(7, -1, -1)), batch["image"])
    assert (own.words.shape[2], own.regions.shape[1:], own.pooled.shape[1]) == (32, (5, 24), 40)
    assert float((own.words - turned.words).abs().amax(dim=(1, 2)).min()) > 1e-4
    assert float((own.regions - retold.regions).abs().amax(dim=(1, 2)).min()) > 1e-4
