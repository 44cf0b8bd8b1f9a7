from pathlib import Path

import pytest
import torch

from intermodal.data.features import Features
from intermodal.decoders.projection import Head
from intermodal.errors import InvalidValue
from intermodal.evaluation.connected import mean_recall, recalls
from intermodal.systems.connected import Connected, Given
from intermodal.training.heads import Options, Split, chosen, fitted, held_back, numbers, part, pooled

TOWERS = {"image": Given("image", 12, 1), "text": Given("text", 10, 1)}


def plain(rows: torch.Tensor) -> Features:
    return Features(rows.half(), torch.arange(len(rows) + 1), torch.arange(len(rows)))


def pairs(count: int, seed: int) -> Split:
    """Two views of the same few numbers, of very different scale."""
    fixed, drawn = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    ways = [torch.randn(6, width, generator=fixed) for width in (12, 10)]
    hidden = torch.randn(count, 6, generator=drawn)
    image, text = hidden @ ways[0] * 100 + 40, hidden @ ways[1] * 0.01
    return Split({"image": plain(image), "text": plain(text)}, torch.arange(count))


def test_heads_learn_what_two_encoders_share() -> None:
    options = Options(epochs=60, batch=64, width=16, heads=2, grid=(Head(32, 0.0, 0),))
    config, tried = chosen(TOWERS, pairs(256, 1), lambda model: {}, options, Path(), print)
    assert tried == []
    assert config.heads == 2
    model = fitted(config, pairs(256, 1), options)
    found = recalls(model, pairs(100, 2))
    assert set(found) == {"image>text", "text>image"}
    assert mean_recall(found) > 0.5  # chance is 0.01


def test_the_same_seed_gives_the_same_heads() -> None:
    options = Options(epochs=2, batch=32, width=8, heads=1, grid=(Head(16, 0.2),))
    config, _ = chosen(TOWERS, pairs(64, 1), lambda model: {}, options, Path(), print)
    first, second = (fitted(config, pairs(64, 1), options).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_head_that_comes_to_most_is_chosen_once(tmp_path: Path) -> None:
    options = Options(epochs=1, batch=32, width=8, heads=3, grid=(Head(), Head(16), Head(24)))
    told: list[str] = []
    asked: list[int] = []

    def measure(model: Connected) -> dict[str, float]:
        asked.append(model.config.head.hidden)
        return {"image>text": {0: 0.1, 16: 0.5, 24: 0.3}[model.config.head.hidden]}

    config, tried = chosen(TOWERS, pairs(64, 1), measure, options, tmp_path, told.append)
    assert config.head == Head(16)
    assert config.heads == 3
    assert [row["mean"] for row in tried] == [0.1, 0.5, 0.3]
    assert len(told) == len(asked) == 3
    again, table = chosen(TOWERS, pairs(64, 1), measure, options, tmp_path, told.append)
    assert again == config
    assert table == tried
    assert len(asked) == 3


def test_groups_are_held_back_whole() -> None:
    data = pairs(400, 1)
    whole = Split(data.given, torch.arange(400) // 2)
    train, dev = held_back(whole)
    owners = [{int(g) for g in whole.groups[split.given["image"].owner]} for split in (train, dev)]
    assert not owners[0] & owners[1]
    assert 10 <= len(owners[1]) <= 40
    assert sum(len(split.given["text"]) for split in (train, dev)) == 400
    classes = held_back(
        Split(data.given, torch.arange(400) % 10)
    )  # what is told of a class is learnt from others of it
    assert len(torch.unique(classes[1].groups[classes[1].given["image"].owner])) == 10


def test_parts_keep_the_rows_of_their_items() -> None:
    rows = torch.arange(12.0)[:, None].half()
    several = Features(rows, torch.tensor([0, 2, 5, 6, 12]), torch.tensor([0, 0, 1, 3]))
    few = part(several, torch.tensor([True, False, True, True]))
    assert few.rows[:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert few.starts.tolist() == [0, 2, 5, 11]
    assert few.owner.tolist() == [0, 0, 3]
    first = pooled(few, Given("text", 1, 2))
    assert first.tolist() == [[0, 1], [2, 3], [6, 7]]
    mean, spread = numbers(first)
    assert mean.tolist() == pytest.approx([8 / 3, 11 / 3])
    assert float(spread[0]) == pytest.approx(float(first[:, 0].std(correction=0)))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidValue, match="batch 1 at least 2"):
        Options(batch=1)
    with pytest.raises(InvalidValue, match="epochs 0"):
        Options(epochs=0)
