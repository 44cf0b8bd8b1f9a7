from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from intermodal.adapters import _live
from intermodal.adapters._frozen import of_function, of_model
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, Unsupported
from intermodal.modalities.text import Text
from intermodal.saving import save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer

WORDS = [Text("a red circle"), Text("the small blue square moving left")]


@pytest.fixture
def one(tmp_path: Path) -> Any:
    torch.manual_seed(0)
    fields = {"text": "text", "timeseries": "timeseries"}
    return of_model(
        save_model(tmp_path / "clip", build(sized("tiny", fields, WordTokenizer(words=Diorama.vocabulary)))), "text"
    )


def test_it_says_what_the_frozen_one_does_with_gradients_in_the_last_blocks_alone(one: Any) -> None:
    live = _live.load(one, _live.Tuning(blocks=1)).eval()
    said, told = live(live.preprocessor(WORDS)), one.says(WORDS)
    assert torch.allclose(said.pooled, told.pooled, atol=1e-6)
    said.pooled.square().sum().backward()
    trained = {name for name, p in live.named_parameters() if p.grad is not None}
    assert trained
    assert all(name.startswith("network.blocks.1.") for name in trained)


def test_items_stand_where_features_do(one: Any) -> None:
    preprocessor = _live.load(one, _live.Tuning(blocks=1)).preprocessor
    source = Diorama("dev", size=6, fields=("text",))
    items = _live.Items.of(source, "text", preprocessor)
    few = items.kept(torch.tensor([True, False, True, False, False, True]))
    assert few.owner.tolist() == [0, 2, 5]
    assert few.items[1] == source.samples([2])[0]["text"]
    batch = few.batch([1, -1])
    assert batch.present.tolist() == [True, False]
    assert torch.equal(batch.values[:1, : int(batch.mask[0].sum())], preprocessor([few.items[1]]).values)


def test_what_cannot_be_trained_is_told(one: Any) -> None:
    with pytest.raises(Unsupported, match="has 2 blocks, not 3"):
        _live.load(one, _live.Tuning(blocks=3))
    with pytest.raises(Unsupported, match="layers of lengths are not known"):
        _live.load(of_function(len, "text", "lengths", "1"), _live.Tuning(blocks=1))
    with pytest.raises(Unsupported, match="no blocks"):
        _live.blocks_of(nn.Linear(2, 2), "this")
    for wrong in ({}, {"blocks": 1, "rank": 1}, {"blocks": 1, "epochs": 0}):
        with pytest.raises(InvalidValue, match="give at least 1"):
            _live.Tuning(**wrong)


def test_matrices_beside_others_are_added_to_them(one: Any) -> None:
    pytest.importorskip("peft")
    live = _live.load(one, _live.Tuning(rank=2)).eval()
    before = live(live.preprocessor(WORDS)).pooled
    trained = [p for p in live.parameters() if p.requires_grad]
    assert trained
    with torch.no_grad():
        for weight in trained:
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    beside = live(live.preprocessor(WORDS)).pooled
    _live.merged(live.network)
    assert not torch.allclose(before, beside, atol=1e-3)
    assert torch.allclose(live(live.preprocessor(WORDS)).pooled, beside, atol=1e-4)
    assert not any("lora" in name for name in live.state_dict())
