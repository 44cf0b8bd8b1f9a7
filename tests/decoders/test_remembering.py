"""Writing an id after the other gives what is computed of the whole row at once."""

import pytest
import torch

from intermodal.decoders.looking import READS, WRITES, TextTransformer
from intermodal.decoders.remembering import Writing
from intermodal.errors import InvalidValue
from intermodal.types import Batch
from tests.decoders.test_looking import SIZE, seen, text


@pytest.mark.parametrize("after", [False, True])
def test_the_logits_are_those_of_the_whole_row(after: bool) -> None:
    model, view = text(after=after), seen()
    ids = torch.randint(0, 20, (3, 8), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        whole = model.words(model(Batch(ids, torch.ones(3, 8, dtype=torch.bool)), 18, view, WRITES).tokens)
        ids[:, 0] = 18
        steps, at = Writing(model, view), 0
        for count in (3, 1, 1, 2, 1):  # several at once, at the beginning and later
            found = steps(ids[:, at : at + count])
            at += count
            torch.testing.assert_close(found, whole[:, at - 1], atol=1e-5, rtol=1e-5)


def test_rows_are_kept_in_any_order() -> None:
    model, view = text(), seen()
    ids = torch.randint(0, 20, (3, 4), generator=torch.Generator().manual_seed(4))
    order = torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        plain, turned = Writing(model, view), Writing(model, view)
        turned.keep(torch.tensor([0, 1, 2]))
        for steps in (plain, turned):
            steps(ids[:, :2])
        turned.keep(order)
        torch.testing.assert_close(turned(ids[order, 2:]), plain(ids[:, 2:])[order], atol=1e-5, rtol=1e-5)


def test_more_words_than_places_are_refused() -> None:
    torch.manual_seed(0)
    model = TextTransformer(SIZE, 20, 2, (READS, WRITES), 12, 0.0, text().layers[0].rest.norms).eval()
    with pytest.raises(InvalidValue, match="3 tokens along axis 0 are more than the 2"):
        Writing(model, seen())(torch.zeros(3, 3, dtype=torch.int64))
