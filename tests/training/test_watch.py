import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue
from intermodal.systems.clip import Config, build, sized
from intermodal.tokenizers.word import WordTokenizer
from intermodal.training.watch import PATIENCE, Watch
from intermodal.types import Batch


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        return {"sum": self.used(torch.ones(1, 2)).sum()}


@pytest.fixture
def said() -> list[str]:
    return []


def ids(rows: list[list[int]]) -> Batch:
    values = torch.tensor(rows)
    return Batch(values, values > 0)


def test_batch_of_one(said: list[str]) -> None:
    watch = Watch(Two(), said.append)
    watch.batch({"text": ids([[1, 2]])})
    watch.batch({"text": ids([[1, 2]])})
    assert len(said) == 1
    assert "holds one sample" in said[0]


def test_loss_stuck_at_the_logarithm_of_the_batch(said: list[str]) -> None:
    watch = Watch(Two(), said.append)
    for step in range(PATIENCE - 1):
        assert watch.loss(step, {"a": torch.tensor(math.log(64))}, 64)
    assert not said
    watch.loss(PATIENCE, {"a": torch.tensor(math.log(64) + 0.001)}, 64)
    assert "has stayed at ln(64) = 4.16" in said[0]


def test_loss_that_moves_is_left_alone(said: list[str]) -> None:
    watch = Watch(Two(), said.append)
    for step in range(2 * PATIENCE):
        watch.loss(step, {"a": torch.tensor(math.log(64) - step / 1000)}, 64)
    assert not said


def test_parameter_without_gradient_is_named(said: list[str]) -> None:
    model = Two()
    watch = Watch(model, said.append)
    model.losses({})["sum"].backward()
    for step in range(21):
        assert watch.gradients(step, 1.0)
    assert len(said) == 1
    assert "2 trained parameters got no gradient" in said[0]
    assert "unused.bias" in said[0]


def test_no_loss_at_all_is_an_error() -> None:
    with pytest.raises(InvalidValue, match="no two trained fields meet"):
        Watch(Two()).loss(0, {}, 4)


def clip_config(**changes: object) -> Config:
    made = sized("tiny", {"text": "text", "timeseries": "timeseries"}, WordTokenizer(words=Diorama.vocabulary))
    return Config(**{**vars(made), **changes})  # type: ignore[arg-type]


def test_equal_captions_counted_as_negatives(said: list[str]) -> None:
    watch = Watch(build(clip_config(equal_texts=False)), said.append)
    watch.batch({"text": ids([[1, 5], [1, 6], [1, 5]])})
    assert "1 of 3 rows of text repeat" in said[0]
    fine: list[str] = []
    Watch(build(clip_config()), fine.append).batch({"text": ids([[1, 5], [1, 6], [1, 5]])})
    assert not fine


def test_frozen_tower_that_is_trained(said: list[str]) -> None:
    made = clip_config()
    frozen = type(made.towers["text"])(**{**vars(made.towers["text"]), "frozen": True})
    model = build(Config(towers={**made.towers, "text": frozen}))
    Watch(model, said.append)
    assert not said
    model.encoders["text"].requires_grad_(True)
    Watch(model, said.append)
    assert "tower text is frozen" in said[0]


def test_collapsed_codebook_is_said_once_and_a_used_one_is_not(said: list[str]) -> None:
    class Coded(Two):
        codes, perplexity = 1000, 40.0

        def codebook_use(self) -> dict[str, float]:
            return {"share_used": 0.1, "perplexity": self.perplexity}

    model = Coded()
    watch = Watch(model, said.append)
    (model.used(torch.ones(1, 2)) + model.unused(torch.ones(1, 2))).sum().backward()
    for step in range(1, 3 * PATIENCE):
        model.perplexity = 40.0 if step <= PATIENCE else 1.5
        watch.gradients(step, 1.0)
    assert len(said) == 1
    assert f"collapsed: at step {2 * PATIENCE} a perplexity of 1.5 among 1000 codes" in said[0]
