from itertools import product

import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.sampling.autoregressive import Sampling, beam_search, choose, continued, draw

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


# ---- Whole rows

END, LONGEST = 0, 4


class Chain:
    """Writes by a table: what comes next depends on the row's own table and its last two ids."""

    def __init__(self, rows: int, vocab: int = 4, seed: int = 0) -> None:
        self.tables = 2 * torch.randn(rows, vocab, vocab, vocab, generator=torch.Generator().manual_seed(seed))
        self.last = torch.zeros(rows, 2, dtype=torch.int64)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        self.last = torch.cat((self.last, ids), dim=1)[:, -2:]
        return self.tables[torch.arange(len(ids)), self.last[:, 0], self.last[:, 1]]

    def keep(self, rows: torch.Tensor) -> None:
        self.tables, self.last = self.tables[rows], self.last[rows]


def mean_of(chain: Chain, row: int, begin: list[int], ids: tuple[int, ...]) -> float:
    """Returns the mean log-likelihood of ids after others, by going through them one by one."""
    last, total = ([0, 0, *begin])[-2:], 0.0
    for i in ids:
        total += float(chain.tables[row, last[0], last[1]].log_softmax(0)[i])
        last = [last[1], i]
    return total / len(ids)


def every_row() -> list[tuple[int, ...]]:
    """Returns all rows of ids that end, or are as long as they may be."""
    found = []
    for length in range(1, LONGEST + 1):
        for ids in product(range(4), repeat=length):
            ends = [i for i, one in enumerate(ids) if one == END]
            if ends == [length - 1] or (not ends and length == LONGEST):
                found.append(ids)
    return found


def test_beams_without_limit_find_the_best_of_all_rows() -> None:
    begin = torch.tensor([[1, 2], [3, 3], [2, 1]])
    wide = beam_search(Chain(3), begin, END, LONGEST, 64)
    for row in range(3):
        scores = sorted((mean_of(Chain(3), row, begin[row].tolist(), ids), ids) for ids in every_row())
        best = wide.ids[row * 64].tolist()
        length = best.index(END) + 1 if END in best else LONGEST
        own = mean_of(Chain(3), row, begin[row].tolist(), tuple(best[:length]))
        assert float(wide.score[row * 64]) == pytest.approx(own, abs=1e-5)
        assert own == pytest.approx(scores[-1][0], abs=1e-5)
        assert wide.score.view(3, 64)[row].diff().le(1e-6).all()


def test_beams_of_a_row_do_not_depend_on_the_others() -> None:
    begin = torch.tensor([[1, 2], [3, 3], [2, 1]])
    together = beam_search(Chain(3), begin, END, LONGEST, 2)
    for row in range(3):
        chain = Chain(3)
        chain.keep(torch.tensor([row]))
        alone = beam_search(chain, begin[row : row + 1], END, LONGEST, 2)
        own = together.ids[2 * row : 2 * row + 2]
        assert own[:, : alone.ids.shape[1]].tolist() == alone.ids.tolist()
        assert not own[:, alone.ids.shape[1] :].any()
        torch.testing.assert_close(alone.score, together.score[2 * row : 2 * row + 2])


def test_what_is_drawn_has_the_score_of_its_ids() -> None:
    begin = torch.tensor([[1, 2], [3, 3], [2, 1]])
    for sampling in (Sampling(), Sampling(1.0, top_p=0.9, seed=3)):
        drawn = draw(Chain(3), begin, END, LONGEST, sampling, torch.tensor([0, 0, 1]))
        for row, ids in enumerate(drawn.ids.tolist()):
            length = ids.index(END) + 1 if END in ids else len(ids)
            assert not any(ids[length:])
            mean = mean_of(Chain(3), row, begin[row].tolist(), tuple(ids[:length]))
            assert float(drawn.score[row]) == pytest.approx(mean, abs=1e-5)


def test_candidates_stand_side_by_side() -> None:
    begin = torch.tensor([[1, 2], [3, 3]])
    how = Sampling(1.0, seed=1)
    drawn = continued(Chain(2), begin, END, LONGEST, how, 3)
    assert len(drawn.ids) == 6
    for row in range(2):
        for number in range(3):
            chain = Chain(2)
            chain.keep(torch.tensor([row]))
            alone = draw(chain, begin[row : row + 1], END, LONGEST, how, torch.tensor([number])).ids[0].tolist()
            assert drawn.ids[3 * row + number].tolist()[: len(alone)] == alone
    assert continued(Chain(2), begin, END, LONGEST, Sampling(), 2).ids.tolist() == (
        beam_search(Chain(2), begin, END, LONGEST, 2).ids.tolist()
    )
    with pytest.raises(InvalidValue, match="0 candidates"):
        continued(Chain(2), begin, END, LONGEST, how, 0)
