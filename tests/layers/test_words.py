import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.layers.words import Words


def test_a_word_is_its_vector_and_its_place_and_hidden_ones_are_alike() -> None:
    words = Words(10, 8, 4)
    ids = torch.tensor([[1, 5, 5], [7, 5, 0]])
    plain = words(ids)
    torch.testing.assert_close(plain, words.table(ids) + words.places((3,)))
    hidden = torch.tensor([[False, True, False], [True, True, False]])
    x = words(ids, hidden)
    torch.testing.assert_close(x[~hidden], plain[~hidden])
    torch.testing.assert_close(x[0, 1], words.blank + words.places((3,))[1])
    torch.testing.assert_close(words(torch.full_like(ids, 9), hidden)[hidden], x[hidden])


def test_what_hides_none_has_no_vector_for_it() -> None:
    assert "blank" not in dict(Words(10, 8, 4, hides=False).named_parameters())
    with pytest.raises(InvalidValue, match="5 tokens"):
        Words(10, 8, 4)(torch.zeros(1, 5, dtype=torch.int64))
