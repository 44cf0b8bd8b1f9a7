import pytest
import torch
from torch.nn import functional as F

from intermodal.decoders.hubs import REACH, Hub, Hubs
from intermodal.errors import InvalidValue

ASKING = {"image": ["text"], "text": ["image"]}


def drawn(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 16, generator=generator) + 0.5, dim=1)


def hubs(image: float = 1.0, text: float = 0.5) -> Hubs:
    made = Hubs({"image": Hub(image, 60), "text": Hub(text, 50)}, 16)
    made.set({"image": drawn(60, 1), "text": drawn(60, 2)}, ASKING)
    return made


def test_dot_products_are_cosines_less_what_each_item_gets() -> None:
    model, pictures, texts = hubs(), drawn(7, 3), drawn(9, 4)
    found = model("image", pictures) @ model("text", texts).T * (1 + 2 * REACH)
    asked = drawn(60, 2).half().float()
    gets = ((10 * pictures @ asked.T).exp().mean(dim=1)).log() / 10
    usual = ((10 * drawn(60, 1) @ asked.T).exp().mean(dim=1)).log().mean() / 10
    by_text = found + (gets - usual)[:, None] - pictures @ texts.T  # the same in each column but for the text's own
    assert torch.allclose(by_text, by_text[:1].expand_as(by_text), atol=1e-5)
    half = 0.5 * model.gets("text", texts)
    assert torch.allclose(by_text[0], -half, atol=1e-5)


def test_vectors_stay_of_length_one_and_begin_with_what_came_in() -> None:
    model, pictures = hubs(), drawn(7, 3)
    longer = model("image", pictures)
    assert longer.shape == (7, 20)
    assert torch.allclose(longer.norm(dim=1), torch.ones(7), atol=1e-5)
    assert torch.allclose(F.normalize(longer[:, :16], dim=1), pictures, atol=1e-5)


def test_what_is_near_to_everything_gives_way() -> None:
    hub = F.normalize(drawn(60, 2).mean(dim=0), dim=0)  # the middle of all queries
    gallery = torch.cat((drawn(20, 5), hub[None]))
    queries = drawn(200, 6)
    plain, model = queries @ gallery.T, hubs()
    without = model("text", queries) @ model("image", gallery).T
    taken = [(scores.argmax(dim=1) == 20).float().mean().item() for scores in (plain, without)]
    assert taken[0] > 0.15  # 1 of 21 would be its share
    assert taken[1] < taken[0] / 2


def test_strength_zero_changes_no_order() -> None:
    model, pictures, texts = hubs(0.0, 0.0), drawn(30, 3), drawn(30, 4)
    with_room = model("image", pictures) @ model("text", texts).T
    assert torch.equal(with_room.argsort(dim=1), (pictures @ texts.T).argsort(dim=1))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidValue, match="strength -1"):
        Hub(-1.0, 5)
    with pytest.raises(InvalidValue, match="by 0 queries"):
        Hub(1.0, 0)
