import pytest
import torch
from torch.nn import functional as F

from intermodal.data.features import Features
from intermodal.decoders.projection import Head
from intermodal.evaluation.connected import mean_recall, recalls
from intermodal.evaluation.hubs import evenly, take_off
from intermodal.systems.connected import Given
from intermodal.training.heads import Config, Connected, Split, heads_over


def plain(rows: torch.Tensor) -> Features:
    return Features(rows.half(), torch.arange(len(rows) + 1), torch.arange(len(rows)))


def one_way() -> Connected:
    """Heads that change nothing: what they are given is what they say."""
    towers = {"image": Given("image", 12), "text": Given("text", 12)}
    model = heads_over(Config(towers, Head(), width=12, heads=1))
    for name in towers:
        head = model.heads[name][0]  # type: ignore[index]
        head.last.weight.data.copy_(torch.eye(12))
        head.last.bias.data.zero_()
        head.norm = torch.nn.Identity()
    return model


def pairs(count: int, seed: int, hub: float) -> Split:
    """Pictures and what is like them; some texts lean to where all pictures are."""
    drawn = torch.Generator().manual_seed(seed)
    middle = torch.ones(12)
    image = F.normalize(torch.randn(count, 12, generator=drawn) + middle, dim=1)
    text = image + 0.1 * torch.randn(count, 12, generator=drawn)
    text = text + hub * middle * (torch.rand(count, 1, generator=drawn) < 0.2)
    return Split({"image": plain(image), "text": plain(F.normalize(text, dim=1))}, torch.arange(count))


def test_hubs_are_taken_off_where_that_finds_more() -> None:
    model = one_way()
    train, dev, test = pairs(400, 1, 0.3), pairs(150, 2, 0.3), pairs(150, 3, 0.3)
    before = recalls(model, test)
    take_off(model, train, dev)
    assert model.config.hubs["image"].strength > 0
    after = recalls(model, test)
    assert after["text>image"]["recall_at_1"] > before["text>image"]["recall_at_1"] + 0.05
    assert after["image>text"]["recall_at_1"] >= before["image>text"]["recall_at_1"]
    assert set(model.state_dict()) > {"hubs.asked_text", "hubs.usual_image"}


def test_where_nothing_is_wrong_vectors_stay_as_they_are() -> None:
    model = one_way()
    exact = pairs(60, 1, 0.0)
    same = Split({"image": exact.given["image"], "text": exact.given["image"]}, exact.groups)
    take_off(model, same, same)
    assert mean_recall(recalls(model, same)) == 1
    assert model.hubs is None
    assert model.config.hubs == {}


@pytest.mark.parametrize("count", [1, 5, 3000])
def test_places_are_spread_over_all(count: int) -> None:
    found = evenly(count, 7)
    assert found[0] == 0
    assert found[-1] == count - 1
    assert len(found) == min(count, 7)
