import torch

from intermodal.decoders.projection import Gather, Projection, Said
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
        plain, looking = Projection(8, 8, 6, hidden).eval(), Projection(8, 8, 6, hidden, queries=2).eval()
        assert torch.allclose(plain(encoded).norm(dim=1), torch.ones(3), atol=1e-5)
        assert torch.equal(plain(encoded), plain(other))
        assert not torch.allclose(looking(encoded), looking(other), atol=1e-3)


def test_dropout_is_for_training_alone() -> None:
    head, encoded = Projection(8, 8, 6, 16, dropout=0.5), said()
    assert not torch.equal(head(encoded), head(encoded))
    head.eval()
    assert torch.equal(head(encoded), head(encoded))


def test_what_comes_in_is_left_out_alike_in_all_rows() -> None:
    head, plain, seen = Projection(64, 8, 6, dropout=0.5), said(), list[torch.Tensor]()
    encoded = Said(plain.tokens, plain.mask, torch.randn(3, 64))
    head.last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    head(encoded)
    head.eval()(encoded)
    trained, whole = seen
    gone = (trained == 0).all(dim=0)
    assert 10 < int(gone.sum()) < 54
    assert torch.equal(trained[:, ~gone], 2 * whole[:, ~gone])
