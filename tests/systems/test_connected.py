from collections.abc import Sequence

import pytest
import torch
from torch.nn import functional as F

from intermodal.config import from_dict, to_dict
from intermodal.decoders.projection import Head, Hub, Hubs
from intermodal.errors import InvalidValue, Unsupported
from intermodal.modalities.text import Text
from intermodal.objectives.contrastive import info_nce
from intermodal.objectives.ranking import triplet_loss
from intermodal.systems.connected import Config, Connected, Given, Passing, build, hinge
from intermodal.types import Batch

LEFT = Given("image", 8, 2, origin="a", revision="1")
RIGHT = Given("text", 4, 1, origin="b", revision="2")


def connected(hard: float = 0.0) -> Connected:
    torch.manual_seed(0)
    config = Config({"image": LEFT, "text": RIGHT}, Head(16, 0.0, 1), width=6, heads=2, hard=hard)
    return Connected(config, {"image": Passing(LEFT), "text": Passing(RIGHT)}, {})


def rows(width: int, count: int = 5, tokens: int = 4, seed: int = 0) -> Batch:
    values = torch.randn(count, width, tokens, generator=torch.Generator().manual_seed(seed))
    return Batch(values, torch.ones(count, tokens, dtype=torch.bool))


def ids(*given: int) -> Batch:
    values = torch.tensor(given)[:, None]
    return Batch(values, torch.ones_like(values, dtype=torch.bool))


def test_the_first_rows_are_the_pooled_vector_and_the_others_tokens() -> None:
    batch = rows(8)
    encoded = Passing(LEFT)(batch)
    assert encoded.pooled.shape == (5, 16)
    assert torch.equal(encoded.pooled[:, :8], batch.values[:, :, 0])
    assert torch.equal(encoded.tokens, batch.values[:, :, 2:].transpose(1, 2))


def test_each_head_has_a_loss_of_its_own_and_groups_are_no_negatives() -> None:
    model = connected()
    batch = {"image": rows(8), "text": rows(4, seed=1), "group": ids(0, 1, 1, 3, 4)}
    found = model.losses(batch)["image-text"]
    groups = batch["group"].values[:, 0]
    scale = model.log_scales["image-text"].exp()
    a, b = (model.vectors(name, batch[name]).split(6, 1) for name in ("image", "text"))
    wanted = [info_nce(x, y, scale, positives=groups[:, None] == groups) for x, y in zip(a, b, strict=True)]
    assert torch.allclose(found, torch.stack(wanted).mean(), atol=1e-5)
    alone = model.losses({"image": batch["image"], "text": batch["text"]})["image-text"]
    assert not torch.allclose(found, alone, atol=1e-3)


def test_the_hinge_is_that_of_the_ranking_losses() -> None:
    a, b = (F.normalize(torch.randn(7, 5), dim=1) for _ in range(2))
    assert torch.allclose(hinge(a @ b.T, torch.eye(7, dtype=torch.bool)), triplet_loss(a, b), atol=1e-6)
    batch = {"image": rows(8), "text": rows(4, seed=1)}
    assert connected(1.0).losses(batch)["image-text"] > connected().losses(batch)["image-text"]


def test_fields_of_one_space_share_heads_and_are_not_trained_against_each_other() -> None:
    towers = {
        "image": Given("image", 4, space="one"),
        "text": Given("text", 4, space="one"),
        "audio": Given("audio", 6),
    }
    config = Config(towers, width=3)
    assert config.pairs() == (("image", "audio"), ("text", "audio"))
    model = Connected(config, {name: Passing(tower) for name, tower in towers.items()}, {})
    assert set(model.heads) == {"one", "audio"}
    same = rows(4, tokens=1)
    assert torch.equal(model.vectors("image", same), model.vectors("text", same))


def test_numbers_of_any_scale_come_to_the_same() -> None:
    model, batch = connected(), rows(8, count=50)
    wide = Batch(batch.values * 100 + 3, batch.mask)
    found = []
    for given in (batch, wide):
        pooled = Passing(LEFT)(given).pooled
        model.set_numbers("image", pooled.mean(dim=0), pooled.std(dim=0))
        centre, scale = model.get_buffer("centre_image"), model.get_buffer("scale_image")
        found.append((pooled - centre) * scale)
    assert torch.allclose(found[0], found[1], atol=1e-3)
    assert 0.8 < float(found[0].std()) < 1.0


def test_absent_rows_are_zero_and_count_for_nothing() -> None:
    model = connected()
    whole = {"image": rows(8), "text": rows(4, seed=1)}
    mask = whole["text"].mask.clone()
    mask[2] = False
    holes = {**whole, "text": Batch(whole["text"].values, mask)}
    assert not model.vectors("text", holes["text"])[2].any()
    kept = torch.tensor([0, 1, 3, 4])
    less = {name: batch.rows(kept) for name, batch in whole.items()}
    assert torch.allclose(model.losses(holes)["image-text"], model.losses(less)["image-text"], atol=1e-5)


def test_equal_ids_have_equal_numbers_whatever_the_padding() -> None:
    values = torch.tensor([[5, 6, 0], [5, 6, 9], [6, 5, 0], [5, 6, 0]])
    mask = torch.tensor([[True, True, False]] * 3 + [[True, True, True]])
    found = Batch(values, mask).keys().tolist()
    assert found[0] == found[1]
    assert len(set(found)) == 3
    assert min(found) >= 0


def test_hubs_lengthen_what_is_embedded_and_leave_naming_as_it_was() -> None:
    class Told:
        def __init__(self, tower: Given) -> None:
            self.tower = tower

        def __call__(self, items: Sequence[Text]) -> Batch:
            return rows(self.tower.width, len(items), seed=len(items[0].text))

    model = connected().eval()
    model.preprocessors = {"image": Told(LEFT), "text": Told(RIGHT)}
    labels, things = ["a", "bb", "ccc"], [Text("one"), Text("three")]
    before, plain = model.classify(things, labels, field="image"), model.embed(things, "image")
    hubs = Hubs({"image": Hub(1.0, 20), "text": Hub(1.0, 20)}, 12)
    said = {name: F.normalize(torch.randn(20, 12), dim=1) for name in ("image", "text")}
    hubs.set(said, {"image": ["text"], "text": ["image"]})
    model.set_hubs(hubs)
    assert torch.allclose(model.classify(things, labels, field="image"), before, atol=1e-5)
    longer = model.embed(things, "image")
    assert longer.shape == (2, 16)
    assert torch.allclose(F.normalize(longer[:, :12], dim=1), plain, atol=1e-5)
    assert from_dict(Config, to_dict(model.config)) == model.config
    with pytest.raises(InvalidValue, match="hubs of image are not of all of image, text"):
        Config({"image": LEFT, "text": RIGHT}, hubs={"image": Hub(1.0, 5)})


def test_a_config_survives_and_what_comes_from_elsewhere_is_not_built_from_it() -> None:
    config = connected().config
    assert from_dict(Config, to_dict(config)) == config
    with pytest.raises(InvalidValue, match=r"image comes from elsewhere \(a\)"):
        build(config)


def test_mistakes_are_told_in_a_sentence() -> None:
    with pytest.raises(InvalidValue, match="at least two"):
        Config({"image": LEFT})
    with pytest.raises(InvalidValue, match="'group'"):
        Config({"group": LEFT, "text": RIGHT})
    with pytest.raises(InvalidValue, match="dropout 1.5"):
        Head(4, 1.5)
    with pytest.raises(InvalidValue, match="at least 1"):
        Given("text", 0)
    with pytest.raises(Unsupported, match="it reads image, text"):
        connected().field_of("audio")
