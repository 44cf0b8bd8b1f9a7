"""``intermodal evaluate``: each of its measurements as text and as JSON, on a model with fresh weights."""

import json

import numpy as np
import pytest
import torch

from intermodal.cli.app import run
from intermodal.cli.evaluate import alignment_text, matrix_text
from intermodal.diorama.source import Diorama
from intermodal.modalities.timeseries import TimeSeries
from intermodal.saving import save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer

LABELS = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    words = WordTokenizer(words=Diorama.vocabulary)
    made = build(sized("tiny", {"text": "text", "timeseries": "timeseries"}, words))
    return str(save_model(tmp_path_factory.mktemp("models") / "fresh", made))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Series whose level says their label: 15 to learn from, 9 to be named."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        values = i % 3 + 0.05 * rng.normal(size=(9, 64))
        TimeSeries(values.astype(np.float32), tuple("abcdefghi"), 32.0).save(folder / f"{i}.csv")
        split = "train" if i < 15 else "test"
        rows.append({"timeseries_file_name": f"{i}.csv", "text": LABELS[i % 3], "split": split})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.fixture
def small_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intermodal.diorama.source.TEST_SIZE", 40)


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run(["evaluate", *arguments, "--json"]) == 0
    result: dict = json.loads(capsys.readouterr().out)
    return result


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["evaluate", *arguments]) == 0
    return capsys.readouterr().out


def test_probe_names_what_a_linear_reader_can_tell_apart(
    model: str, labelled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = found(capsys, model, "--data", labelled, "--probe", "timeseries")
    assert (result["train_items"], result["items"], result["labels"]) == (15, 9, 3)
    assert (result["split"], result["field"], result["model"]) == ("test", "timeseries", model)
    assert result["accuracy"] == 1.0  # the levels lie far apart
    text = said(capsys, model, "--data", labelled, "--probe", "timeseries")
    assert "100.00% of 9 items of timeseries named right among 3 labels by a linear probe on 15 training items" in text


def test_zero_shot_names_from_words_alone(model: str, labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data", labelled, "--classify", "timeseries", "--prompt", "a {} circle", "--prompt", "a {} star")
    result = found(capsys, model, *options)
    assert (result["items"], result["labels"], result["model"]) == (9, 3, model)
    assert 0.0 <= result["accuracy"] <= 1.0
    assert "of 9 items of timeseries named right among 3 labels from words alone" in said(capsys, model, *options)


@pytest.mark.usefixtures("small_test_split")
def test_alignment_stands_beside_the_matrix(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = found(capsys, model, "--alignment")
    assert set(result["pairs"]) == {"text>timeseries", "timeseries>text"}
    pair = result["alignment"]["text-timeseries"]
    assert (pair["samples"], pair["candidates"]) == (40, 40)
    assert 0 <= pair["canonical_correlation"] <= 1
    assert pair["gap"] == pytest.approx(result["gaps"]["text-timeseries"])
    assert pair["mutual_information_bound"] < 1.0  # fresh weights know next to nothing
    low, high = result["pairs"]["text>timeseries"]["interval"]
    assert 0 <= low <= result["pairs"]["text>timeseries"]["recall_at_1"] <= high <= 1
    assert "alignment" not in found(capsys, model)
    text = said(capsys, model, "--alignment")
    assert text.index("Recall@1") < text.index("Alignment of the vectors") < text.index("Next:")


def test_tables_say_what_the_figures_are() -> None:
    pair = {
        "canonical_correlation": 0.5,
        "canonical_correlation_shuffled": 0.25,
        "cka": 0.125,
        "gap": 1.0,
        "mutual_information_bound": 2.5,
        "candidates": 1000.0,
    }
    lines = alignment_text({"text-image": pair}).splitlines()
    assert [line.split() for line in lines[2::2]] == [
        ["correlation", "by", "chance", "CKA", "gap", "information,", "nats", "at", "most"],
        ["text-image", "0.500", "0.250", "0.125", "1.000", "2.50", "6.91"],
    ]
    figures = {"recall_at_1": 0.25, "ceiling": 0.5}
    shown = matrix_text({"name": "x", "split": "dev", "count": 3, "pairs": {"a>b": figures}})
    assert "row finds column: x dev, 3 samples" in shown
    assert "25.0 of 50.0" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--probe", "timeseries", "--classify", "timeseries"), "give --classify, or --probe, or --alignment"),
        (("--probe", "timeseries", "--alignment"), "different measurements"),
        (("--classify", "timeseries", "--report", "r.html"), "different measurements"),
        (("--probe", "image"), "the data has no field 'image'; it has timeseries, text"),
        (("--probe", "timeseries", "--label-field", "timeseries"), "labels must be texts"),
        (("--split", "nowhere"), "'nowhere'"),
    ],
)
def test_mistake_is_one_line_and_status_2(
    model: str, labelled: str, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", model, "--data", labelled, *options]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("error: ")
    assert message in errors[-1]


def test_sentences_are_no_labels(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intermodal.evaluation.protocols.PROBE_SAMPLES", 30)
    monkeypatch.setattr("intermodal.diorama.source.TEST_SIZE", 10)
    assert run(["evaluate", model, "--probe", "timeseries"]) == 2
    assert "texts in 'text' are distinct: they are no labels" in capsys.readouterr().err
