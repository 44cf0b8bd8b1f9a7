"""Fusion: what is absent has no say, modality dropout leaves one field, decisions are what their parts say."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.decoders.tasks import Task
from intermodal.encoders.tower import TowerConfig
from intermodal.errors import InvalidValue, UnknownName
from intermodal.fusion import FORMS, FusionConfig
from intermodal.fusion.late import RULES
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.modalities.timeseries import TimeSeries, TimeSeriesPreprocessor
from intermodal.systems.fusion import JOINT, Config, Fusion, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Batch, Predicts, Trains

WORDS = WordTokenizer(words=("high", "low", "loud", "soft"))
TOWERS = {
    "pitch": TowerConfig(TimeSeriesPreprocessor(channels=1, sample_rate_hz=8.0, patch=2), width=16, depth=1, heads=2),
    "note": TowerConfig(TextPreprocessor(WORDS), width=12, depth=1, heads=2),
}
TASKS = {
    "label": Task("classes", ("a", "b", "c")),
    "tags": Task("labels", ("high", "loud")),
    "size": Task("number", offset=5.0, scale=2.0),
}
SMALL = FusionConfig("gated", 16, 1, 2, rank=2, inner=4)
CONFIG = Config(TOWERS, TASKS, SMALL, "product")


def trace(level: float) -> TimeSeries:
    return TimeSeries(np.full((1, 8), level, np.float32), ("c",), 8.0)


SAMPLES: list[dict[str, Any]] = [
    {"pitch": trace(1.0), "note": Text("loud"), "label": Text("a"), "tags": Text("high, loud"), "size": Text("7")},
    {"pitch": trace(-1.0), "note": Text("soft"), "label": Text("b"), "tags": Text("low"), "size": Text("3")},
    {"pitch": trace(0.0), "label": Text("c"), "size": Text("5")},
    {"note": Text("loud soft"), "label": Text("d"), "tags": Text("loud")},
    {"label": Text("a"), "size": Text("1")},
]


def made(**changes: Any) -> Fusion:
    torch.manual_seed(0)
    return build(dataclasses.replace(CONFIG, **changes))


def scrambled(batch: dict[str, Batch]) -> dict[str, Batch]:
    """Returns the batch with other numbers in every absent row."""
    changed = {}
    for name, part in batch.items():
        values = part.values.clone()
        values[~part.present] = 3 if values.dtype == torch.int64 else 1e5
        changed[name] = Batch(values, part.mask)
    return changed


every_fusion = pytest.mark.parametrize(
    "changes",
    [{"fusion": dataclasses.replace(SMALL, form=form), "late": ""} for form in FORMS]
    + [{"fusion": dataclasses.replace(SMALL, form=""), "late": rule} for rule in RULES]
    + [{"late": "weighted"}, {"fusion": dataclasses.replace(SMALL, placeholder=True)}],
    ids=[*FORMS, *RULES, "hybrid", "placeholder"],
)


@every_fusion
def test_it_trains_and_predicts_with_every_fusion(changes: dict[str, Any]) -> None:
    model = made(**changes)
    assert isinstance(model, Trains)
    assert isinstance(model, Predicts)
    losses = model.losses(batches(model, SAMPLES))
    assert {"label", "tags", "size"} <= set(losses)
    torch.stack(list(losses.values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    found = model.predict(SAMPLES)
    assert {name: tuple(rows.shape) for name, rows in found.items()} == {
        "label": (5, 3),
        "tags": (5, 2),
        "size": (5, 1),
    }
    assert all(bool(rows.isfinite().all()) for rows in found.values())


@every_fusion
def test_what_stands_in_absent_rows_changes_neither_losses_nor_gradients(changes: dict[str, Any]) -> None:
    model = made(**changes, modality_dropout=0.0)
    batch = batches(model, SAMPLES)
    results = []
    for given in (batch, scrambled(batch)):
        model.zero_grad()
        losses = model.losses(given)
        torch.stack(list(losses.values())).sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((torch.stack(list(losses.values())).detach(), gradients))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-6)


def test_each_single_decision_has_its_loss_beside_the_joint_one() -> None:
    model = made(modality_dropout=0.0)
    batch = batches(model, SAMPLES)
    losses = model.losses(batch)
    assert {f"label.{who}" for who in ("pitch", "note", JOINT)} | {"label"} <= set(losses)
    rows = {name: batch[name].present for name in TOWERS}
    said = model.decisions({name: model.encode(name, batch[name], rows[name]) for name in TOWERS})["label"]
    told = batch["label"].present & rows["note"]  # the fourth sample's label is none of the classes
    assert told.tolist() == [True, True, False, False, False]
    alone = TASKS["label"].loss(said["note"].pooled[told], batch["label"].rows(told))
    torch.testing.assert_close(losses["label.note"], alone / 3)
    whole = torch.tensor([True, True, True, False, False])
    torch.testing.assert_close(losses["label"], TASKS["label"].loss(said[""].pooled[whole], batch["label"].rows(whole)))
    assert set(made(alone=0.0).losses(batch)) == {"label", "tags", "size"}


@torch.no_grad()
def test_the_decision_from_one_field_is_that_field_s_own() -> None:
    model = made(fusion=dataclasses.replace(SMALL, form="")).eval()
    batch = batches(model, SAMPLES[:2])
    encoded = model.encode("pitch", batch["pitch"], batch["pitch"].present)
    expected = model.heads["label"]["pitch"](encoded.pooled).softmax(dim=1)  # type: ignore[index]
    found = model.predict([{"pitch": s["pitch"]} for s in SAMPLES[:2]])["label"]
    torch.testing.assert_close(found, expected)
    nothing = model.predict([{}])["label"]
    torch.testing.assert_close(nothing, torch.full((1, 3), 1 / 3))


def test_modality_dropout_takes_a_share_and_leaves_one() -> None:
    model = made(modality_dropout=0.5).train()
    present = torch.ones(4000, 2, dtype=torch.bool)
    present[:1000, 0] = False
    present[1000:1100] = False
    kept = model._kept(present)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(dim=1), present.any(dim=1))
    assert torch.equal(kept[:1000], present[:1000])  # what has one field keeps it
    both = kept[1100:].all(dim=1).float().mean()
    assert 0.2 < float(both) < 0.3  # a half of a half
    assert abs(float(kept[1100:, 0].float().mean() - kept[1100:, 1].float().mean())) < 0.06
    assert torch.equal(model.eval()._kept(present), present)


def test_absent_rows_are_not_even_computed() -> None:
    model = made()
    batch = batches(model, SAMPLES)
    seen = []
    model.encoders["note"].register_forward_hook(lambda module, given, result: seen.append(len(given[0])))
    encoded = model.encode("note", batch["note"], batch["note"].present)
    assert seen == [3]
    assert encoded.mask.any(dim=1).tolist() == [True, True, False, True, False]
    assert not encoded.pooled[~batch["note"].present].any()


def test_a_frozen_tower_gets_no_gradient() -> None:
    towers = {**TOWERS, "note": dataclasses.replace(TOWERS["note"], frozen=True)}
    model = made(towers=towers).train()
    torch.stack(list(model.losses(batches(model, SAMPLES)).values())).sum().backward()
    assert all(p.grad is None for p in model.encoders["note"].parameters())
    assert not model.encoders["note"].training
    assert all(p.grad is not None for p in model.heads.parameters())


def test_what_is_told_is_the_field_of_that_name_or_the_last_text() -> None:
    fields = {"image": "image", "question": "text", "answer": "text", "caption": "text"}
    config = sized("tiny", fields, WORDS)
    assert list(config.tasks) == ["answer"]
    assert set(config.towers) == {"image", "question", "caption"}
    assert config.tasks["answer"].words == WORDS.words
    assert list(sized("paper", {"image": "image", "text": "text"}, WORDS).tasks) == ["text"]
    with pytest.raises(InvalidValue, match="needs a field to read and one to tell"):
        sized("tiny", {"image": "image", "audio": "audio"}, WORDS)
    with pytest.raises(InvalidValue, match="tells text"):
        sized("tiny", {"text": "text"}, WORDS)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"towers": {}}, InvalidValue),
        ({"towers": {**TOWERS, "label": TOWERS["note"]}}, InvalidValue),
        ({"towers": {**TOWERS, JOINT: TOWERS["note"]}}, InvalidValue),
        ({"late": "vote"}, UnknownName),
        ({"late": "", "fusion": dataclasses.replace(SMALL, form="")}, InvalidValue),
        ({"modality_dropout": 1.0}, InvalidValue),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        dataclasses.replace(CONFIG, **changes)


def test_no_samples_are_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        made().predict([])
