"""The transformer over words that reads, writes and looks: what each may see, and what is shared."""

import pytest
import torch

from intermodal.decoders.looking import READS, WRITES, Eyes, Stack, TextTransformer
from intermodal.errors import InvalidValue
from intermodal.layers.block import Norms
from intermodal.layers.stem import stem
from intermodal.types import Batch, Encoded, Grid

SIZE = Stack(16, 2, 2, 24)


def text(ways: tuple[str, ...] = (READS, WRITES), width: int | None = 12, after: bool = False) -> TextTransformer:
    torch.manual_seed(0)
    return TextTransformer(SIZE, 20, 9, ways, width, 0.0, Norms(after)).eval()


def seen(rows: int = 3, seed: int = 1) -> Encoded:
    tokens = torch.randn(rows, 5, 12, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(5) < torch.tensor([5, 3, 0])[:rows, None]
    return Encoded(tokens, mask, tokens[:, 0])


def texts() -> Batch:
    ids = torch.randint(1, 18, (3, 7), generator=torch.Generator().manual_seed(2))
    return Batch(ids, torch.arange(7) < torch.tensor([7, 4, 6])[:, None])


@pytest.mark.parametrize("after", [False, True])
def test_reading_sees_everything_and_writing_what_stands_before(after: bool) -> None:
    model, batch, view = text(after=after), texts(), seen()
    other = Batch(batch.values.clone(), batch.mask)
    other.values[:, 3] = 19
    with torch.no_grad():
        for way, changes in ((READS, True), (WRITES, False)):
            gap = (model(batch, 18, view, way).tokens - model(other, 18, view, way).tokens).abs().amax(dim=2)
            assert bool((gap[:, :3] > 1e-5).all()) == changes
            assert bool((gap[:, 3] > 1e-5).all())


def test_the_first_id_says_what_is_to_be_done() -> None:
    model, batch = text(), texts()
    with torch.no_grad():
        one, other = model(batch, 18, seen()).pooled, model(batch, 19, seen()).pooled
        ids = Batch(torch.cat((torch.full((3, 1), 5), batch.values[:, 1:]), dim=1), batch.mask)
        torch.testing.assert_close(model(ids, 18, seen()).pooled, one)
    assert float((one - other).abs().amax(dim=1).min()) > 1e-4


def test_padding_and_what_is_not_there_change_nothing() -> None:
    model, batch, view = text(), texts(), seen()
    wild = Batch(torch.where(batch.mask, batch.values, 7), batch.mask)
    noise = torch.where(view.mask[..., None], view.tokens, 50.0)
    with torch.no_grad():
        for way in (READS, WRITES):
            whole = model(batch, 18, view, way).tokens
            other = model(wild, 18, Encoded(noise, view.mask, view.pooled), way).tokens
            torch.testing.assert_close(whole[batch.mask], other[batch.mask], atol=1e-5, rtol=1e-5)
            for row in range(3):
                length = int(batch.mask[row].sum())
                index = torch.tensor([row])
                alone = Batch(batch.values[index][:, :length], batch.mask[index][:, :length])
                one = Encoded(view.tokens[index], view.mask[index], view.pooled[index])
                found = model(alone, 18, one, way).tokens[0]
                torch.testing.assert_close(found, whole[row, :length], atol=1e-5, rtol=1e-5)
        unseen = model(batch, 18, None).tokens
        torch.testing.assert_close(unseen[2], model(batch, 18, view).tokens[2], atol=1e-5, rtol=1e-5)
    assert float((unseen[0] - model(batch, 18, view).tokens[0]).detach().abs().max()) > 1e-4


def test_reading_and_writing_share_all_but_their_self_attentions() -> None:
    names = {name for name, _ in text().named_parameters()}
    reads, writes = ({name for name, _ in text((way,)).named_parameters()} for way in (READS, WRITES))
    assert names == reads | writes
    apart = {name for name in names if name not in reads & writes}
    assert all(".ways." in name or name.startswith("tell.") for name in apart)
    assert {name for name in reads & writes if ".ways." in name} == set()


def test_what_is_told_of_a_word_comes_of_those_before_it() -> None:
    model, batch = text(), texts()
    with torch.no_grad():
        logits, wanted = model.told(batch, 18, seen())
        tokens = model(batch, 18, seen(), WRITES).tokens
        assert wanted.tolist() == [i for row, n in zip(batch.values.tolist(), (7, 4, 6), strict=True) for i in row[1:n]]
        torch.testing.assert_close(logits[6 + 2], model.words(tokens[1, 2]))
    with pytest.raises(AssertionError):
        text((READS,)).words(tokens)


def test_pictures_have_a_token_before_those_of_the_patches() -> None:
    torch.manual_seed(0)
    layout = Grid(2, 3, (4, 4))
    eyes = Eyes(SIZE, stem(layout, 16), (2, 3)).eval()
    values = torch.randn(3, 3, 8, 12)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1] = False
    with torch.no_grad():
        found = eyes(Batch(values, mask))
        alone = eyes(Batch(values[2:], mask[2:]))
    assert found.tokens.shape == (3, 7, 16)
    assert found.mask.sum(dim=1).tolist() == [7, 0, 7]
    assert not found.pooled[1].any()
    torch.testing.assert_close(found.pooled[2], found.tokens[2, 0])
    torch.testing.assert_close(alone.tokens[0], found.tokens[2], atol=1e-5, rtol=1e-5)


def test_a_size_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidValue, match="heads of at least 1"):
        Stack(16, 2, 0)
