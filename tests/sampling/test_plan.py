"""What is written from what."""

import pytest
import torch

from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.text import Text
from intermodal.sampling.plan import Plan, plan_of
from intermodal.types import Batch

TASKS = {"answer": (("image", "question"),), "mask": (("image", "phrase"), ("image", "tone"))}
PLAN = Plan(("text", "image", "audio"), TASKS, single=0.5, alone=0.1)
WORD = Text("word")


def batch(names: list[str], rows: int = 400, absent: str = "") -> dict[str, Batch]:
    mask = torch.ones(rows, 3, dtype=torch.bool)
    return {n: Batch(torch.zeros(rows, 3, dtype=torch.int64), mask & (n != absent)) for n in names}


def test_free_fields_are_written_from_one_from_several_and_from_none_as_often_as_planned() -> None:
    torch.manual_seed(0)
    (seen,) = PLAN.drawn("text", batch(["text", "image", "audio"], 4000))
    assert set(seen) == {"image", "audio"}
    count = torch.stack(list(seen.values())).sum(dim=0)
    shares = [float((count == n).double().mean()) for n in range(3)]
    assert shares[0] == pytest.approx(0.1, abs=0.02)
    assert shares[1] == pytest.approx(0.5 + 0.4 / 2, abs=0.03)
    assert shares[2] == pytest.approx(0.4 / 2, abs=0.03)
    assert float(seen["image"].double().mean()) == pytest.approx(float(seen["audio"].double().mean()), abs=0.03)


def test_what_a_row_lacks_is_not_seen() -> None:
    (seen,) = PLAN.drawn("text", batch(["text", "image", "audio"], absent="audio"))
    assert not bool(seen["audio"].any())
    assert bool(seen["image"].any())


def test_a_task_is_written_from_one_of_its_ways_and_whole() -> None:
    torch.manual_seed(0)
    (seen,) = PLAN.drawn("mask", batch(["mask", "image", "phrase", "tone", "text"]))
    assert set(seen) == {"image", "phrase", "tone"}
    assert bool(seen["image"].all())
    assert bool((seen["phrase"] ^ seen["tone"]).all())
    assert 0.4 < float(seen["tone"].double().mean()) < 0.6
    (alone,) = PLAN.drawn("mask", batch(["mask", "image", "phrase", "tone"], absent="tone"))
    assert bool(alone["phrase"].all())
    assert PLAN.drawn("mask", batch(["mask", "image"])) == []
    assert PLAN.drawn("phrase", batch(["phrase", "image"])) == []


def test_targets_alone_are_written_and_from_each_other_field_where_that_is_planned() -> None:
    plan = Plan(("text", "image", "audio"), targets=("text",), each=True)
    assert plan.written() == ("text",)
    assert plan.directions() == (("image", "text"), ("audio", "text"))
    here = batch(["text", "image", "audio"], rows=5, absent="audio")
    assert plan.drawn("image", here) == []
    seen = plan.drawn("text", here)
    assert [list(one) for one in seen] == [["image"], ["audio"]]
    assert bool(seen[0]["image"].all())
    assert not bool(seen[1]["audio"].any())
    with pytest.raises(Unsupported, match="does not write it; it writes text"):
        plan.usable({"text": WORD}, "image")
    with pytest.raises(UnknownName, match="smell"):
        Plan(("text", "image"), targets=("smell",))


def test_what_a_sample_is_written_from() -> None:
    assert set(PLAN.usable({"text": WORD, "image": WORD, "audio": WORD, "tone": WORD}, "text")) == {"image", "audio"}
    assert set(PLAN.usable({"image": WORD, "tone": WORD, "text": WORD}, "mask")) == {"image", "tone"}
    with pytest.raises(Unsupported, match="image with phrase or image with tone; the sample has image"):
        PLAN.usable({"image": WORD}, "mask")
    with pytest.raises(Unsupported, match="any of image, audio; the sample has text"):
        PLAN.usable({"text": WORD}, "text")
    assert PLAN.usable({}, "text") == {}  # from nothing, which is learnt where ``alone`` is above 0
    with pytest.raises(Unsupported, match="any of image, audio; the sample has nothing"):
        Plan(PLAN.free, alone=0.0).usable({}, "text")
    with pytest.raises(Unsupported, match="the sample has nothing"):
        PLAN.usable({}, "mask")
    with pytest.raises(Unsupported, match="reads 'phrase' and does not write it"):
        PLAN.usable({"image": WORD}, "phrase")
    with pytest.raises(UnknownName, match="smell"):
        PLAN.usable({"image": WORD}, "smell")


def test_directions_are_those_of_free_fields_and_of_tasks_with_one_source() -> None:
    plan = Plan(("text", "image"), {"speech": (("text",),), "answer": (("image", "question"),)})
    assert plan.directions() == (("text", "image"), ("image", "text"), ("text", "speech"))
    assert plan.names() == ("text", "image", "speech", "answer", "question")


@pytest.mark.parametrize("shares", [{"single": 0.9, "alone": 0.2}, {"alone": -0.1}])
def test_shares_are_shares(shares: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match="shares that make at most 1"):
        Plan(("a", "b"), **shares)  # type: ignore[arg-type]


def test_the_names_of_fields_tell_their_plan() -> None:
    assert plan_of(("text", "image", "audio")) == Plan(("text", "image", "audio"))
    assert plan_of(("image", "question", "answer")) == Plan(("image",), {"answer": (("image", "question"),)})
    assert plan_of(("text", "speech", "transcript")).tasks == {
        "speech": (("text",),),
        "transcript": (("speech",),),
    }
    assert plan_of(("text", "image", "phrase", "mask")).tasks == {"mask": (("image", "phrase"),)}  # there is no tone
    assert plan_of(("answer", "audio")) == Plan(("answer", "audio"))  # nothing here is what answers are written from
