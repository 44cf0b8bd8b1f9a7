import numpy as np
import pytest

from intermodal.errors import InvalidValue
from intermodal.training.curriculum import competence, curriculum


def test_share_grows_from_the_start_to_all_as_a_root() -> None:
    shares = [competence(step, 100, 0.2) for step in range(0, 151, 10)]
    assert shares[0] == pytest.approx(0.2)
    assert shares[10:] == [1.0] * 6
    assert shares == sorted(shares)
    assert competence(50, 100, 0.2) == pytest.approx(np.sqrt((1 + 0.04) / 2))


def test_hard_samples_come_late_and_all_come_in_the_end() -> None:
    difficulty = np.random.default_rng(0).integers(0, 9, 500)
    sampler = curriculum(difficulty, 20, steps=50, start=0.1)
    early = np.concatenate([difficulty[sampler(step)] for step in range(3)])
    late = np.concatenate([difficulty[sampler(step)] for step in range(50, 90)])
    assert early.max() <= np.sort(difficulty)[int(0.25 * 500)]
    assert set(late.tolist()) == set(range(9))
    seen = {i for step in range(50, 450) for i in sampler(step)}
    assert len(seen) == 500


def test_batch_depends_on_the_step_alone() -> None:
    difficulty = np.arange(100)
    assert curriculum(difficulty, 5, 10)(3) == curriculum(difficulty, 5, 10)(3) != curriculum(difficulty, 5, 10)(4)


@pytest.mark.parametrize("changes", [{"start": 0.0}, {"start": 1.5}, {"steps": 0}, {"batch_size": 90}])
def test_numbers_outside_their_range_are_explained(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=str(next(iter(changes.values())))):
        curriculum(np.arange(100), **{"batch_size": 5, "steps": 10, **changes})  # type: ignore[arg-type]
