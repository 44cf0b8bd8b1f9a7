"""Early fusion is one transformer over one sequence."""

import torch

from intermodal.fusion import FusionConfig
from intermodal.fusion.early import build
from intermodal.types import Encoded


@torch.no_grad()
def test_it_is_the_blocks_over_all_real_tokens_in_one_row() -> None:
    made = build(FusionConfig("early", 8, 2, 2), {"a": 4, "b": 3})
    a, b = torch.randn(1, 3, 4), torch.randn(1, 2, 3)
    mask = torch.tensor([[True, True, False]])
    fused = made({"a": Encoded(a, mask, a.mean(1)), "b": Encoded(b, torch.ones(1, 2, dtype=torch.bool), b.mean(1))})
    x = torch.cat(
        (made.first_token[None, None], made.fields.maps["a"](a[:, :2]), made.fields.maps["b"](b)), dim=1
    )  # the padding taken out
    for block in made.blocks:
        x = block(x)
    x = made.norm(x)
    torch.testing.assert_close(fused.tokens[fused.mask], x[0])
    torch.testing.assert_close(fused.pooled, x[:, 0])
    assert fused.mask.tolist() == [[True, True, True, False, True, True]]
