"""LXMERT: three encoders; what fields and tasks decide, what masks keep apart, what is learnt, answered and kept."""

from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.decoders.asking import Roles
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.systems import lxmert
from intermodal.testing import batches
from tests import grounded


def make(roles: Roles = grounded.BOTH, seed: int = 0, **changes: Any) -> lxmert.Lxmert:
    torch.manual_seed(seed)
    numbers: dict[str, Any] = {"width": 32, "depths": (1, 1, 2), "heads": 2, "answers": grounded.ANSWERS, "levels": 3}
    numbers |= {"image": grounded.IMAGE, "text": grounded.TEXT, **changes}
    return lxmert.build(lxmert.Config(roles, **numbers))


def test_fields_decide_the_losses() -> None:
    grounded.check_losses(make, set(lxmert.OBJECTIVES))


@pytest.mark.parametrize("task", lxmert.OBJECTIVES)
def test_a_task_can_be_left_out_or_stand_alone(task: str) -> None:
    others = tuple(one for one in lxmert.OBJECTIVES if one != task)
    grounded.check_losses(lambda roles: make(roles, objectives=others), set(others))
    assert set(make(objectives=(task,)).losses(batches(make(), grounded.SAMPLES))) == {task, "answers"}


def test_what_is_absent_changes_nothing() -> None:
    for after in (False, True):
        grounded.check_absent(make(norm_after=after))


def test_eight_samples_are_learnt(tmp_path: Path) -> None:
    grounded.check_learns(make, tmp_path)


def test_what_cannot_be_is_refused() -> None:
    grounded.check_refuses(make, lxmert)
    grounded.check_sizes(lxmert, (180, 205))
    with pytest.raises(UnknownName, match="objective of lxmert"):
        make(objectives=("names",))
    with pytest.raises(InvalidValue, match="no objective to learn them by"):
        make(objectives=())
    with pytest.raises(InvalidValue, match="depths"):
        make(depths=(1, 1))
    with pytest.raises(Unsupported, match="has not learnt what matches"):
        make(objectives=("words",)).score([grounded.SAMPLES[0]["image"]], [grounded.SAMPLES[0]["text"]])


def test_both_streams_see_each_other_and_hidden_regions_are_not_seen() -> None:
    model = make().eval()
    batch = batches(model, grounded.SAMPLES)
    unseen = torch.ones_like(batch["image"].mask)
    with torch.no_grad():
        own = model.read(batch["text"], batch["image"])
        turned = model.read(batch["text"], batch["image"].rows(torch.arange(7, -1, -1)))
        retold = model.read(batch["text"].rows(torch.arange(7, -1, -1)), batch["image"])
        blind = model.read(batch["text"], batch["image"], unseen=unseen)
        blind_too = model.read(batch["text"], batch["image"].rows(torch.arange(7, -1, -1)), unseen=unseen)
    assert float((own.words - turned.words).abs().amax(dim=(1, 2)).min()) > 1e-4
    assert float((own.regions - retold.regions).abs().amax(dim=(1, 2)).min()) > 1e-4
    assert float((own.words - blind.words).abs().amax(dim=(1, 2)).min()) > 1e-4
    torch.testing.assert_close(blind.words, blind_too.words)
