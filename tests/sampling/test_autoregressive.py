import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.sampling.autoregressive import Sampling, choose

LOGITS = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()


def frequencies(sampling: Sampling, rows: int = 20_000) -> torch.Tensor:
    draw = (torch.arange(rows) + 0.5) / rows
    ids = choose(LOGITS.expand(rows, 4), sampling, draw)
    return torch.bincount(ids, minlength=4) / rows


def test_greedy_takes_the_most_likely() -> None:
    assert choose(LOGITS[None], Sampling(), torch.tensor([0.99])).tolist() == [1]


def test_ids_are_drawn_as_often_as_the_model_says() -> None:
    torch.testing.assert_close(frequencies(Sampling(1.0)), torch.tensor([0.1, 0.5, 0.15, 0.25]), atol=1e-3, rtol=0)


def test_temperature_sharpens() -> None:
    squared = LOGITS.exp() ** 2
    torch.testing.assert_close(frequencies(Sampling(0.5)), squared / squared.sum(), atol=1e-3, rtol=0)


def test_top_k_and_top_p_leave_out_the_rest() -> None:
    torch.testing.assert_close(
        frequencies(Sampling(1.0, top_k=2)), torch.tensor([0, 2 / 3, 0, 1 / 3]), atol=1e-3, rtol=0
    )
    # the id that crosses the threshold still belongs to the nucleus
    torch.testing.assert_close(
        frequencies(Sampling(1.0, top_p=0.6)), torch.tensor([0, 2 / 3, 0, 1 / 3]), atol=1e-3, rtol=0
    )
    assert frequencies(Sampling(1.0, top_p=0.4)).tolist() == [0, 1, 0, 0]


def test_an_impossible_id_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 0.0]]).expand(1000, 3)
    draw = torch.linspace(0, 1 - 1e-7, 1000)
    assert set(choose(logits, Sampling(1.0), draw).tolist()) == {0, 2}


def test_draws_depend_on_seed_candidate_and_step_alone() -> None:
    few = Sampling(seed=3).draws(torch.tensor([2]), 5)
    many = Sampling(seed=3).draws(torch.tensor([0, 2, 1, 2]), 5)
    assert torch.equal(many[1], few[0])
    assert torch.equal(many[3], few[0])
    assert not torch.equal(many[0], few[0])
    assert not torch.equal(Sampling(seed=4).draws(torch.tensor([2]), 5), few)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]
