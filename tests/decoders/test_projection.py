import pytest
import torch
from torch.nn import functional as F

from intermodal.decoders.projection import REACH, Gather, Head, Hub, Hubs, Projection, Said
from intermodal.errors import InvalidValue
from intermodal.types import Encoded


def said(rows: int = 3, tokens: int = 5, width: int = 8, seed: int = 0) -> Encoded:
    made = torch.Generator().manual_seed(seed)
    mask = torch.arange(tokens) < torch.tensor([[tokens], [2], [1]])[:rows]
    values = torch.randn(rows, tokens, width, generator=made)
    return Encoded(values, mask, torch.randn(rows, width, generator=made))


def test_a_query_of_zeros_gives_the_mean_of_the_real_tokens() -> None:
    gather = Gather(8, 2)
    with torch.no_grad():
        gather.queries.zero_()
    encoded = said()
    found = gather(encoded.tokens, encoded.mask).view(3, 2, 8)
    assert torch.allclose(found[1, 0], encoded.tokens[1, :2].mean(dim=0), atol=1e-6)
    assert torch.allclose(found[2, 1], encoded.tokens[2, 0], atol=1e-6)


def test_padding_changes_nothing_and_a_row_without_tokens_gives_zeros() -> None:
    gather, encoded = Gather(8, 2), said()
    wild = torch.where(encoded.mask[..., None], encoded.tokens, torch.full_like(encoded.tokens, 9.0))
    assert torch.equal(gather(wild, encoded.mask), gather(encoded.tokens, encoded.mask))
    none = gather(encoded.tokens[:, :0], encoded.mask[:, :0])
    assert none.shape == (3, 16)
    assert not none.any()
    assert not gather(encoded.tokens, torch.zeros_like(encoded.mask)).any()


def test_heads_give_unit_vectors_and_look_at_tokens_only_where_asked() -> None:
    encoded = said()
    other = Encoded(encoded.tokens + torch.randn(3, 5, 8), encoded.mask, encoded.pooled)
    for hidden in (0, 16):
        plain, looking = Projection(8, 8, 6, Head(hidden)).eval(), Projection(8, 8, 6, Head(hidden, queries=2)).eval()
        assert torch.allclose(plain(encoded).norm(dim=1), torch.ones(3), atol=1e-5)
        assert torch.equal(plain(encoded), plain(other))
        assert not torch.allclose(looking(encoded), looking(other), atol=1e-3)


def test_dropout_is_for_training_alone() -> None:
    head, encoded = Projection(8, 8, 6, Head(16, 0.5)), said()
    assert not torch.equal(head(encoded), head(encoded))
    head.eval()
    assert torch.equal(head(encoded), head(encoded))


def test_what_comes_in_is_left_out_alike_in_all_rows() -> None:
    head, plain, seen = Projection(64, 8, 6, Head(0, 0.5)), said(), list[torch.Tensor]()
    encoded = Said(plain.tokens, plain.mask, torch.randn(3, 64))
    head.last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head(encoded)
    head.eval()(encoded)
    trained, whole = seen
    gone = (trained == 0).all(dim=0)
    assert 10 < int(gone.sum()) < 54
    assert torch.equal(trained[:, ~gone], 2 * whole[:, ~gone])


# ---- Hubs

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
