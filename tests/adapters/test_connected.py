import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.adapters import connected
from intermodal.adapters._frozen import of_function, of_model
from intermodal.cli.app import run
from intermodal.decoders.projection import Head, Hub, Hubs
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidCheckpoint, InvalidData, InvalidValue, Unsupported
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.saving import save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer
from intermodal.training.heads import Options

QUICK = Options(epochs=3, batch=8, width=8, heads=2, grid=(Head(), Head(16, 0.1, 1)))
COUNTS = {"train": 24, "dev": 6, "test": 6}


def clip(folder: Path, fields: Sequence[str], seed: int) -> Path:
    torch.manual_seed(seed)
    kinds = {name: name for name in fields}
    return save_model(folder, build(sized("tiny", kinds, WordTokenizer(words=Diorama.vocabulary))))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that never met: one of pictures and series, one of texts and series."""
    folder = tmp_path_factory.mktemp("models")
    return clip(folder / "seeing", ("image", "timeseries"), 1), clip(folder / "reading", ("text", "timeseries"), 2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with two sentences each."""
    folder, rows = tmp_path_factory.mktemp("pairs"), []
    for split, count in COUNTS.items():
        for i, sample in enumerate(Diorama(split, fields=("image", "text")).samples(range(count))):
            picture: Any = sample["image"]
            words: Any = sample["text"]
            picture.save(folder / f"{split}{i}.png")
            rows.append(
                {"image_file_name": f"{split}{i}.png", "text": [words.text, f"{words.text} again"], "split": split}
            )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Colours:
    """The mean colour of a picture, by a person's own function; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, items: Sequence[Any]) -> np.ndarray:
        self.asked += len(items)
        return np.stack([item.pixels.reshape(-1, 3).mean(axis=0) for item in items])


def test_two_models_become_one_that_loads_and_embeds(models: tuple[Path, Path], pairs: Path, tmp_path: Path) -> None:
    encoders = {"image": of_model(models[0], "image"), "text": of_model(models[1], "text")}
    told: list[str] = []
    result = im.connect(encoders, str(pairs), tmp_path / "one", QUICK, tmp_path / "cache", told.append)
    assert len(result["tried"]) == len(told) == 2
    assert set(result["test_figures"]) == {"image>text", "text>image"}
    assert result["test_figures"]["text>image"]["count"] == 2 * COUNTS["test"]
    assert result["fields"]["text"]["revision"] == encoders["text"].revision
    model = im.load(tmp_path / "one")
    items = [Image.open(pairs / "test0.png"), Text("a small red circle"), Image.open(pairs / "test1.png")]
    rows = model.embed(items)
    assert rows.shape == (3, 16 + 2 * len(model.config.hubs))
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(model.embed(items[1:2])[0], rows[1], atol=1e-5)
    assert model.score(items[:1], items[1:2]).shape == (1, 1)
    assert not any(parameter.requires_grad for tower in model.encoders.values() for parameter in tower.parameters())
    assert "circle" not in (tmp_path / "one" / "README.md").read_text()
    library = im.Library.create(tmp_path / "library", model)
    library.add(pairs)
    assert library.search(Text("a small red circle"), top=2)


def test_figures_are_those_of_the_loaded_model(models: tuple[Path, Path], pairs: Path, tmp_path: Path) -> None:
    from intermodal.data.sources import open_source
    from intermodal.evaluation.protocols import any_to_any

    encoders = {"image": of_model(models[0], "image"), "text": of_model(models[1], "text")}
    result = im.connect(encoders, str(pairs), tmp_path / "one", QUICK, tmp_path / "cache")
    found = any_to_any(im.load(tmp_path / "one"), open_source(str(pairs), "test"))["pairs"]
    for way, figures in result["test_figures"].items():
        assert found[way]["recall_at_5"] == pytest.approx(figures["recall_at_5"], abs=0.17)  # one item: kept in float16


def test_what_was_said_is_kept_and_a_function_is_asked_for_by_name(
    models: tuple[Path, Path], pairs: Path, tmp_path: Path
) -> None:
    colours = Colours()
    encoders = {"image": of_function(colours, "image", "colours", "1"), "text": of_model(models[1], "text")}
    first = im.connect(encoders, str(pairs), tmp_path / "one", QUICK, tmp_path / "cache")
    asked = colours.asked
    assert asked == sum(COUNTS.values()) + 1  # and one to see how much it says
    again = im.connect(encoders, str(pairs), tmp_path / "two", QUICK, tmp_path / "cache")
    assert colours.asked == asked + 1
    assert again["test_figures"] == first["test_figures"]
    assert again["tried"] == first["tried"]
    with pytest.raises(InvalidCheckpoint, match="'image' is the Python function 'colours'"):
        im.load(tmp_path / "one")
    model = connected.load(tmp_path / "one", {"image": encoders["image"]})
    assert model.embed([Image.open(pairs / "test0.png")]).shape == (1, 16)


def test_data_without_dev_holds_some_back(models: tuple[Path, Path], pairs: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (pairs / "metadata.jsonl").read_text().splitlines()]
    kept = [{**row, "image_file_name": row["image_file_name"]} for row in rows if row["split"] == "train"]
    folder = tmp_path / "plain"
    folder.mkdir()
    for row in kept:
        (folder / row["image_file_name"]).write_bytes((pairs / row["image_file_name"]).read_bytes())
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    encoders = {"image": of_model(models[0], "image"), "text": of_model(models[1], "text")}
    result = im.connect(encoders, str(folder), tmp_path / "one", QUICK, tmp_path / "cache")
    assert "test_figures" not in result
    assert 1 <= result["dev_figures"]["image>text"]["count"] < 12


def test_what_takes_hubs_off_is_kept_with_the_model(models: tuple[Path, Path], pairs: Path, tmp_path: Path) -> None:
    encoders = {"image": of_model(models[0], "image"), "text": of_model(models[1], "text")}
    alone = Options(epochs=1, batch=8, width=8, heads=1, grid=(Head(),), hubs=False)
    im.connect(encoders, str(pairs), tmp_path / "one", alone, tmp_path / "cache")
    model, items = im.load(tmp_path / "one"), [Image.open(pairs / "test0.png"), Text("a small red circle")]
    plain = model.embed(items)
    hubs = Hubs({"image": Hub(1.0, 5), "text": Hub(0.5, 5)}, 8)
    said = {name: torch.nn.functional.normalize(torch.randn(5, 8), dim=1) for name in ("image", "text")}
    hubs.set(said, {"image": ["text"], "text": ["image"]})
    model.set_hubs(hubs)
    without = model.embed(items)
    assert without.shape == (2, 12)
    connected.save(tmp_path / "two", model, encoders, "a card")
    again = im.load(tmp_path / "two")
    assert torch.allclose(again.embed(items), without, atol=1e-6)
    assert torch.equal(im.load(tmp_path / "one").embed(items), plain)
    im.export(again, "text", tmp_path / "text.onnx", cosine_min=0.9999)  # refuses what differs from the model


def test_a_damaged_folder_is_refused(models: tuple[Path, Path], pairs: Path, tmp_path: Path) -> None:
    encoders = {"image": of_model(models[0], "image"), "text": of_model(models[1], "text")}
    alone = Options(epochs=1, batch=8, width=8, heads=1, grid=(Head(),))
    im.connect(encoders, str(pairs), tmp_path / "one", alone, tmp_path / "cache")
    header = json.loads((tmp_path / "one" / "config.json").read_text())
    for change, words in (
        ({"format": 9}, "format 9, not 2; update"),
        ({"format": 1}, "format 1, not 2; connect its encoders again"),
        ({"encoders": {}}, "has encoders of"),
        ({"config": {**header["config"], "width": 16}}, "does not fit the model"),
        ({"encoders": {**header["encoders"], "text": {"kind": "other"}}}, "of the kind 'other'"),
    ):
        (tmp_path / "one" / "config.json").write_text(json.dumps({**header, **change}))
        with pytest.raises(InvalidCheckpoint, match=words):
            im.load(tmp_path / "one")


def test_mistakes_are_told(models: tuple[Path, Path], pairs: Path, tmp_path: Path) -> None:
    text = of_model(models[1], "text")
    with pytest.raises(InvalidValue, match="at least two"):
        im.connect({"text": text}, str(pairs), tmp_path / "one", QUICK, tmp_path)
    with pytest.raises(InvalidData, match="'image' of .* is image; clip reads text|reads text"):
        im.connect({"image": text, "text": text}, str(pairs), tmp_path / "one", QUICK, tmp_path)


def test_the_command_line_connects(
    models: tuple[Path, Path], pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "one"
    quick = [
        "--epochs",
        "1",
        "--batch",
        "8",
        "--width",
        "8",
        "--heads",
        "1",
        "--head",
        "0,0,0",
        "--cache",
        str(tmp_path / "c"),
    ]
    given = [f"image@{models[0]}", f"text=text@{models[1]}"]
    assert run(["connect", *given, "--pairs", str(pairs), "--out", str(out), *quick, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["head"]["hidden"] == 0
    assert run(["connect", *given, "--pairs", str(pairs), "--out", str(out), *quick, "--no-hubs"]) == 0
    told = capsys.readouterr().out
    assert "image>text" in told
    assert "hubs taken off: none" in told
    assert run(["embed", str(out), "a red circle", "--out", str(tmp_path / "v.npz"), "--json"]) == 0
    assert run(["connect", f"text@{models[1]}", f"text@{models[1]}", "--pairs", str(pairs), *quick]) == 2
    assert "two encoders read the field 'text'" in capsys.readouterr().err
    assert run(["connect", *given, "--pairs", str(pairs), *quick, "--head", "wide"]) == 2


def test_the_last_blocks_of_an_encoder_are_trained_too(
    models: tuple[Path, Path], pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoders = {"image": of_model(models[0], "image"), "text": of_model(models[1], "text")}
    alone = Options(epochs=2, batch=8, width=8, heads=1, grid=(Head(),))
    before = dict(im.load(models[1]).encoders["text"].state_dict())
    tuning = {"text": connected.Tuning(blocks=1, epochs=2, learning_rate=1e-2)}
    result = im.connect(encoders, str(pairs), tmp_path / "one", alone, tmp_path / "cache", tuning=tuning)
    assert "dev_recall_at_1_frozen" in result
    kept = im.load(tmp_path / "one" / "encoders" / "text").encoders["text"].state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], kept[name])}
    assert changed == {"1"}  # the second of two blocks
    model = im.load(tmp_path / "one")
    words = Text("a small red circle")
    assert torch.allclose(model.embed([words]), model.embed([words, words])[:1], atol=1e-5)
    told = encoders["text"]([words]).values
    assert torch.allclose(model.preprocessors["text"]([words]).values, told, atol=1e-5)
    with pytest.raises(Unsupported, match="has 2 blocks, not 7"):
        im.connect(
            encoders, str(pairs), tmp_path / "two", alone, tmp_path / "cache", tuning={"text": connected.Tuning(7)}
        )
    assert run(["connect", "a", "b", "--pairs", str(pairs), "--tune", "text=2"]) == 2
    assert "says no way to train" in capsys.readouterr().err


def test_two_spaces_meet_through_texts_alone(tmp_path: Path) -> None:
    first, second = clip(tmp_path / "a", ("image", "text"), 1), clip(tmp_path / "b", ("timeseries", "text"), 2)
    source = Diorama("train", fields=("image", "text", "timeseries"))
    samples = source.samples(range(200))
    texts: list[Any] = [sample["text"] for sample in samples]
    others = [sample[name] for sample in samples[:8] for name in ("image", "timeseries")]
    options = Options(epochs=80, batch=64, width=32, heads=1, grid=(Head(),), learning_rate=3e-3)
    result = connected.join_spaces(first, second, texts, tmp_path / "both", options, others)
    assert set(result["fields"]) == {"image", "text", "timeseries", "text_2"}
    assert result["dev_recall_at_1"] > 0.3  # of about 20: the same text, read by either model
    model = im.load(tmp_path / "both")
    assert sorted(path.name for path in (tmp_path / "both" / "encoders").iterdir()) == ["image", "timeseries"]
    rows = model.embed([samples[0]["image"], samples[0]["timeseries"], texts[0]])
    assert rows.shape == (3, 32)
    a, b = model.embed(texts[:20], fields="text"), model.embed(texts[:20], fields="text_2")
    assert float((a * b).sum(dim=1).mean()) > float((a * b.roll(1, 0)).sum(dim=1).mean()) + 0.2
    with pytest.raises(InvalidValue, match="at least 20"):
        connected.join_spaces(first, second, texts[:3], tmp_path / "few")
    blind = clip(tmp_path / "c", ("image", "timeseries"), 3)
    with pytest.raises(Unsupported, match="reads no text"):
        connected.join_spaces(first, blind, texts, tmp_path / "none", options)
