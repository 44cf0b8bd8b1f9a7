"""BLIP: the losses that fields decide, what is learnt, searched, matched, written and answered, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.decoders.asking import Roles
from intermodal.decoders.looking import Stack
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.block import Norms
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.saving import load_model, save_model
from intermodal.systems import blip
from intermodal.testing import batches
from intermodal.types import Answers, Completes, Embeds, Scores, Trains, Translates
from tests import grounded

SMALL = Stack(32, 1, 2)
EVERY = {"contrast", "matching", "writing"}
IMAGES, TEXTS = [s["image"] for s in grounded.SAMPLES], [s["text"] for s in grounded.SAMPLES]


def make(roles: Roles = grounded.BOTH, seed: int = 0, **changes: Any) -> blip.Blip:
    torch.manual_seed(seed)
    numbers: dict[str, Any] = {"grid": (2, 2), "seen": SMALL, "said": SMALL, "space": 16, "queue": 20, "longest": 10}
    return blip.build(blip.Config(roles, grounded.IMAGE, grounded.TEXT, **{**numbers, **changes}))


@pytest.fixture(scope="module")
def learnt() -> blip.Blip:
    """One that knows the eight samples by heart."""
    model = make(kept=0.9).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = batches(model, grounded.SAMPLES * 2)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 20)
        optimizer.zero_grad()
        torch.stack(list(model.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


# ---- Trains


@pytest.mark.parametrize(
    ("roles", "learns", "wanted"),
    [
        (grounded.BOTH, blip.LOSSES, {*EVERY, "answers"}),
        (grounded.CAPTIONS, blip.LOSSES, EVERY),
        (grounded.QUESTIONS, blip.LOSSES, {"answers"}),
        (grounded.CAPTIONS, ("contrast",), {"contrast"}),
        (grounded.CAPTIONS, ("matching",), {"matching"}),
        (grounded.CAPTIONS, ("writing",), {"writing"}),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_fields_and_config_decide_the_losses(
    roles: Roles, learns: tuple[str, ...], wanted: set[str], shared: bool
) -> None:
    model = make(roles, learns=learns, shared=shared)
    for protocol in (Trains, Embeds, Scores, Translates, Completes, Answers):
        assert isinstance(model, protocol)
    losses = model.losses(batches(model, grounded.SAMPLES))
    assert set(losses) == wanted
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    without = [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()]
    assert not without, f"no gradient for {without}"
    assert all(p.grad is None for p in model.slow.parameters())


def test_what_is_absent_teaches_nothing() -> None:
    model = make()
    alone = [{"text": TEXTS[0]}, {"image": IMAGES[0]}, {"question": Text("where is it?"), "image": IMAGES[1]}]
    assert model.losses(batches(model, alone)) == {}
    few = [grounded.SAMPLES[0], {"text": TEXTS[1]}, {"question": Text("where is it?"), "answer": Text("left")}]
    assert set(model.losses(batches(model, few))) == {*EVERY, "answers"}  # of one row there are no negatives


def test_the_slow_copy_follows_in_training_alone() -> None:
    model = make()
    batch = batches(model, grounded.SAMPLES)
    slow: Any = model.slow
    table, own = slow["text"].table.weight, model.texts["reads-writes"].table.weight  # type: ignore[union-attr]
    torch.testing.assert_close(table, own)  # it begins as a copy
    with torch.no_grad():
        own.add_(1.0)  # type: ignore[operator]
    before = table.clone()
    model.eval().losses(batch)
    assert torch.equal(table, before)
    assert len(model.queue.held[0]) == 0
    model.train().losses(batch)
    torch.testing.assert_close(table, before + 0.005, atol=1e-6, rtol=1e-5)
    assert len(model.queue.held[0]) == 8
    assert int(model.get_buffer("steps")) == 1
    names = [name for name, _ in slow.named_parameters()]
    assert not any("norm_cross" in name or "writes" in name or "tell" in name for name in names)
    assert make(kept=0.0).slow.state_dict() == {}


def test_softness_changes_the_labels() -> None:
    first = {}
    for softness in (0.0, 0.9):
        model = make(softness=softness)
        model.get_buffer("steps").fill_(10_000)
        first[softness] = float(model.losses(batches(model, grounded.SAMPLES))["contrast"].detach())
    assert first[0.9] < first[0.0]  # at the start the copy is the model itself: nothing it says surprises


def test_equal_words_are_no_negatives() -> None:
    model = make(kept=0.0, learns=("contrast",), roles=grounded.CAPTIONS)
    same = [{"image": image, "text": TEXTS[0]} for image in IMAGES]
    batch = batches(model, same)
    right = torch.full((8, 8), 1 / 8)
    with torch.no_grad():
        shown, told = model.shown(model.eyes(batch["image"])), model.alone(batch["text"])
        logits = model.log_scale.exp() * shown @ told.T
        cost = sum(-(right * x.log_softmax(dim=1)).sum(dim=1).mean() / 2 for x in (logits, logits.T))
        found = model.losses(batch)["contrast"]
    assert float(found) == pytest.approx(float(cost) - float(torch.tensor(8.0).log()), abs=1e-5)


# ---- What is learnt


def test_vectors_find_and_the_matching_head_tells(learnt: blip.Blip) -> None:
    vectors = learnt.embed([*IMAGES, *TEXTS])
    assert (vectors[:8] @ vectors[8:].T).argmax(dim=1).tolist() == list(range(8))
    table = learnt.score(IMAGES, TEXTS)
    fits = torch.eye(8, dtype=torch.bool)
    assert float(table[fits].mean() - table[~fits].mean()) > 1
    torch.testing.assert_close(learnt.score(TEXTS, IMAGES), table.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(learnt.matches(IMAGES, TEXTS), table.diagonal(), atol=1e-4, rtol=1e-4)
    assert learnt.score([], TEXTS).shape == (0, 8)
    assert learnt.matches([], []).shape == (0,)


def test_the_nearest_are_read_again(learnt: blip.Blip) -> None:
    full = learnt.score(IMAGES, TEXTS)
    cosines = learnt.embed(IMAGES) @ learnt.embed(TEXTS).T
    for one, other, whole, near in ((IMAGES, TEXTS, full, cosines), (TEXTS, IMAGES, full.T, cosines.T)):
        table = learnt.score(one, other, nearest=3)
        for row in range(8):
            best = near[row].topk(3).indices
            torch.testing.assert_close(table[row, best], whole[row, best], atol=1e-4, rtol=1e-4)
            rest = [i for i in range(8) if i not in best.tolist()]
            torch.testing.assert_close(table[row, rest], near[row, rest] - blip.FAR)
    assert torch.equal(learnt.score(IMAGES, TEXTS, nearest=8), full)


def test_captions_are_written_by_beams_drawn_and_begun(learnt: blip.Blip) -> None:
    wanted = [text.text for text in TEXTS]
    for count in (1, 3):
        assert [item.text for item in learnt.translate(IMAGES, "text", count=count)] == wanted  # type: ignore[attr-defined]
    rows = learnt.candidates([{"image": image} for image in IMAGES], "text", count=3)
    assert [len(row) for row in rows] == [3] * 8
    for row in rows:
        scores = [candidate.score for candidate in row]
        assert scores == sorted(scores, reverse=True)
    how = Sampling(2.0, top_p=0.95, seed=3)
    drawn = [item.text for item in learnt.translate(IMAGES, "text", sampling=how)]  # type: ignore[attr-defined]
    assert drawn == [learnt.translate([image], "text", sampling=how)[0].text for image in IMAGES]  # type: ignore[attr-defined]
    assert len({*drawn} | {*wanted}) > 8
    learnt.begin = "a white"
    try:
        assert all(i.text.startswith("a white") for i in learnt.translate(IMAGES, "text", count=2))  # type: ignore[attr-defined]
    finally:
        learnt.begin = ""


def test_answers_are_written(learnt: blip.Blip, tmp_path: Path) -> None:
    wanted = [s["answer"].text for s in grounded.SAMPLES]
    questions = [s["question"].text for s in grounded.SAMPLES]
    samples = [{"image": image} for image in IMAGES]
    assert learnt.answers(samples, questions) == wanted
    assert learnt.answer(samples[0], questions[0]) == wanted[0]
    assert isinstance(learnt.answer({}, questions[0]), str)
    asked = {"image": IMAGES[0], "question": Text(questions[0])}
    assert learnt.candidates([asked], "answer", count=2)[0][0].item == Text(wanted[0])
    save_model(tmp_path / "m", learnt)
    loaded = load_model(tmp_path / "m")
    assert loaded.config == learnt.config
    assert loaded.answers(samples, questions) == wanted
    assert torch.equal(loaded.score(IMAGES, TEXTS), learnt.score(IMAGES, TEXTS))
    assert torch.equal(loaded.queue.held[0], learnt.queue.held[0])


# ---- What is refused


def test_what_was_not_learnt_is_refused() -> None:
    with pytest.raises(Unsupported, match="has learnt no answers"):
        make(grounded.CAPTIONS).answer({"image": IMAGES[0]}, "where is it?")
    with pytest.raises(Unsupported, match="has not learnt what matches"):
        make(grounded.QUESTIONS).score(IMAGES, TEXTS)
    with pytest.raises(Unsupported, match="makes vectors of nothing, not of image"):
        make(grounded.QUESTIONS).embed(IMAGES)
    with pytest.raises(Unsupported, match="makes vectors of image, text, not of question"):
        make().embed(TEXTS, fields="question")
    assert make(grounded.CAPTIONS, learns=("contrast",)).directions == ()
    with pytest.raises(Unsupported, match=r"writes text from image, answer from question, not image from image"):
        make().translate(IMAGES, "image")
    with pytest.raises(Unsupported, match=r"not text from image \(text\)"):
        make().translate(TEXTS, "text")
    with pytest.raises(Unsupported, match="reads image with words, not text"):
        make().score(TEXTS, TEXTS)
    with pytest.raises(InvalidValue, match="0 candidates"):
        make().translate(IMAGES, "text", count=0)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"learns": ("masking",)}, UnknownName, "loss of blip"),
        ({"learns": ()}, InvalidValue, "no loss to learn them by"),
        ({"kept": 1.0}, InvalidValue, "kept of blip is 1.0"),
        ({"softness": -0.1}, InvalidValue, "softness of blip"),
        ({"dropout": 1.0}, InvalidValue, "dropout of blip"),
        ({"space": 0}, InvalidValue, "space 0"),
        ({"begins": (3,)}, InvalidValue, "two ids or none"),
        ({"seen": Stack(48, 1, 2)}, InvalidValue, "need the same width"),
    ],
)
def test_configs_that_cannot_be_are_refused(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(**wrong)
    for name in ("image", "text"):
        with pytest.raises(InvalidValue, match=f"'{name}' of blip is nothing"):
            blip.Config(**{"image": grounded.IMAGE, "text": grounded.TEXT, name: None})


def test_sizes() -> None:
    fields = {"image": "image", "text": "text"}
    with torch.device("meta"):
        tiny = blip.build(blip.sized("tiny", fields, grounded.WORDS))
        whole = blip.build(blip.sized("paper", fields, grounded.WORDS))

    def count(model: blip.Blip) -> int:
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    assert 1e6 < count(tiny) < 3e6
    assert 2.2e8 - 768 * 30_522 < count(whole) < 2.6e8  # but for BERT's vocabulary
    assert whole.config.norms == Norms(True, 1e-12)
    with pytest.raises(UnknownName, match="size of"):
        blip.sized("huge", fields, grounded.WORDS)
    with pytest.raises(Unsupported, match="of text the data has none"):
        blip.sized("tiny", {"image": "image"}, grounded.WORDS)
    wide = make(grounded.CAPTIONS, seen=Stack(48, 1, 2))  # without questions, both may be of any width
    assert set(wide.losses(batches(wide, grounded.SAMPLES))) == EVERY
