import pytest
import torch

from intermodal.errors import UnknownName
from intermodal.layers.pooling import POOLINGS, Pooling

MASK = torch.tensor([[True, True, True, False], [True, False, False, False], [False, False, False, False]])


@pytest.mark.parametrize("kind", POOLINGS)
def test_padding_does_not_matter_and_absent_rows_are_zero(kind: str) -> None:
    pool = Pooling(kind, 8, 2)
    tokens = torch.randn(3, 4, 8)
    pooled = pool(tokens, MASK)
    changed = torch.where(MASK[..., None], tokens, torch.randn(3, 4, 8))
    torch.testing.assert_close(pool(changed, MASK)[:2], pooled[:2])
    assert float(pooled[2].detach().abs().sum()) == 0.0


def test_each_kind_takes_what_its_name_says() -> None:
    tokens = torch.randn(3, 4, 8)
    torch.testing.assert_close(Pooling("mean", 8)(tokens, MASK)[0], tokens[0, :3].mean(dim=0))
    torch.testing.assert_close(Pooling("first", 8)(tokens, MASK)[0], tokens[0, 0])
    torch.testing.assert_close(Pooling("last", 8)(tokens, MASK)[:2], torch.stack((tokens[0, 2], tokens[1, 0])))


def test_unknown_kind_lists_those_there_are() -> None:
    with pytest.raises(UnknownName, match="'median'.*attention, first, last, mean"):
        Pooling("median", 8)
