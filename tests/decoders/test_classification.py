import torch
from torch.nn import functional as F

from intermodal.decoders.classification import Classifier, FirstToken, WordHead


def test_words_are_told_by_their_own_table() -> None:
    head, table, x = WordHead(8, 5), torch.randn(5, 8), torch.randn(2, 3, 8)
    head.bias.data = torch.randn(5)
    transformed = F.layer_norm(F.gelu(head.transform.project(x)), (8,))
    torch.testing.assert_close(head(x, table), transformed @ table.T + head.bias)


def test_classes_have_one_layer_before_them() -> None:
    head, x = Classifier(8, 3), torch.randn(4, 8)
    assert head(x).shape == (4, 3)
    assert head.choose.in_features == 16
    assert Classifier(8, 3, inner=5).choose.in_features == 5
    inner = F.layer_norm(F.gelu(head.transform.project(x)), (16,))
    torch.testing.assert_close(head(x), head.choose(inner))


def test_the_first_token_stands_for_all() -> None:
    pool, x = FirstToken(8, 6), torch.randn(2, 3, 8)
    torch.testing.assert_close(pool(x), pool.project(x[:, 0]).tanh())
    assert FirstToken(8)(x).shape == (2, 8)
