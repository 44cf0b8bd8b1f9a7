from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.adapters import _frozen
from intermodal.decoders.projection import Said
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidCheckpoint, InvalidValue, MissingExtra, UnknownName, Unsupported
from intermodal.modalities.text import Text
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.word import WordTokenizer

SAMPLES = Diorama("test", fields=("text", "timeseries")).samples(range(4))
TEXTS = [sample["text"] for sample in SAMPLES]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    fields = {"text": "text", "timeseries": "timeseries"}
    model = build(sized("tiny", fields, WordTokenizer(words=Diorama.vocabulary)))
    return save_model(tmp_path_factory.mktemp("models") / "clip", model)


def lengths(items: Sequence[Any]) -> np.ndarray:
    return np.array([[len(item.text), 1.0] for item in items])


def test_of_a_model_all_that_its_encoder_says_is_told(saved: Path) -> None:
    one, model = _frozen.of_model(saved, "text"), load_model(saved)
    batch = one([TEXTS[0], None, TEXTS[1]])
    encoded = model.encoders["text"](model.preprocessors["text"](TEXTS[:2]))
    assert batch.mask[:, 0].tolist() == [True, False, True]
    assert torch.allclose(batch.values[0, :, 0], encoded.pooled[0], atol=1e-5)
    assert torch.allclose(batch.values[2, :, 1], encoded.tokens[1, 0], atol=1e-5)
    assert int(batch.mask[2].sum()) == 1 + int(encoded.mask[1].sum())
    assert one.shape(TEXTS[0]) == (encoded.pooled.shape[1], 1)


def test_of_its_space_there_is_the_one_vector(saved: Path) -> None:
    one, model = _frozen.of_model(saved, "text", space=True), load_model(saved)
    batch = one(TEXTS)
    assert batch.values.shape[2] == 1
    assert torch.allclose(batch.values[:, :, 0], model.embed(TEXTS), atol=1e-6)
    assert one.revision != _frozen.of_model(saved, "text").revision
    assert set(_frozen.fields_of(saved)) == {"text", "timeseries"}


def test_a_field_has_to_be_named_where_there_are_several(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="use one of: text, timeseries"):
        _frozen.of_model(saved)
    with pytest.raises(UnknownName, match="'image'"):
        _frozen.of_model(saved, "image")


def test_a_function_gives_vectors_or_all_that_it_knows() -> None:
    one = _frozen.of_function(lengths, "text", "lengths", "1")
    assert one([Text("ab"), None, Text("abc")]).values[:, 0, 0].tolist() == [2, 0, 3]
    said = Said(torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 4))
    told = _frozen.of_function(lambda items: said, "text", "rich", "1")
    assert told.shape(Text("a")) == (2, 2)
    assert told([Text("a")]).values[0, 0].tolist() == [0, 0, 1, 1, 1]
    assert one.revision != _frozen.of_function(lengths, "text", "lengths", "2").revision


def test_what_a_function_must_not_give_is_told() -> None:
    with pytest.raises(InvalidValue, match=r"gave the shape \(2,\); expected vectors"):
        _frozen.of_function(lambda items: np.zeros(2), "text", "flat", "1")([Text("a")])
    with pytest.raises(InvalidValue, match="for 2 items"):
        _frozen.of_function(lambda items: np.zeros((1, 3)), "text", "few", "1")([Text("a"), Text("b")])
    one = _frozen.of_function(lengths, "text", "lengths", "1")
    with pytest.raises(InvalidValue, match="lengths reads text, not timeseries"):
        one([SAMPLES[0]["timeseries"]])
    with pytest.raises(InvalidValue, match="no items"):
        one([None])
    with pytest.raises(InvalidValue, match="has no revision"):
        _frozen.of_function(lengths, "text", "lengths", "")
    with pytest.raises(UnknownName, match="smell"):
        _frozen.of_function(lengths, "smell", "lengths", "1")


def test_encoders_of_one_model_are_kept_once_and_loaded_as_they_were(saved: Path, tmp_path: Path) -> None:
    function = _frozen.of_function(lengths, "text", "lengths", "1")
    given = {**_frozen.fields_of(saved), "other": function}
    records = _frozen.save(tmp_path / "kept", given)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["other", "text"]
    found = _frozen.load(tmp_path / "kept", records, {"other": function})
    for name, items in (("text", TEXTS), ("timeseries", [sample["timeseries"] for sample in SAMPLES])):
        assert torch.equal(found[name](items).values, given[name](items).values)
        assert found[name].revision == given[name].revision
    with pytest.raises(InvalidCheckpoint, match=r"'other' is the Python function 'lengths'.*of_function"):
        _frozen.load(tmp_path / "kept", records, {})
    with pytest.raises(InvalidCheckpoint, match="expected model, onnx, function"):
        _frozen.load(tmp_path / "kept", {"text": {"kind": "pickle"}}, {})


def test_items_become_features_each_its_own_sample(saved: Path) -> None:
    one = _frozen.of_model(saved, "text")
    found = _frozen.spoken(one, TEXTS, batch_size=3)
    batch = one(TEXTS)
    assert len(found) == 4
    again = found.batch(range(4))
    assert torch.equal(again.mask, batch.mask)
    assert torch.allclose(again.values, batch.values * batch.mask[:, None], atol=1e-2)


def test_what_does_not_embed_or_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_frozen.saving, "load_model", lambda name: torch.nn.Identity())
    with pytest.raises(Unsupported, match="does not embed"):
        _frozen.of_model(tmp_path)
    with pytest.raises(MissingExtra, match=r"intermodal\[onnx\]"):
        _frozen.optional("no_such_package_at_all", "onnx", "reading an ONNX file")


def test_an_onnx_file_reads_pictures_as_its_settings_say(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx: Any = pytest.importorskip("onnx")
    from intermodal.modalities.image import Image

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("GlobalAveragePool", ["pixels"], ["grid"])
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info("pixels", kind, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("grid", kind, ["n", 3, 1, 1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "mean.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(InvalidCheckpoint, match=r"preprocessor_config\.json"):
        _frozen.of_onnx(path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 4, "width": 4}}')
    one = _frozen.of_onnx(path)
    pixels = np.full((9, 6, 3), 128, np.uint8)
    batch = one([Image(pixels)])
    wanted = one.says([Image(pixels)]).pooled[0]
    assert torch.allclose(batch.values[0, :, 0], wanted, atol=1e-6)
    assert one.shape(Image(pixels)) == (3, 1)
    path.write_bytes(b"no network")
    with pytest.raises(InvalidCheckpoint, match="cannot be read as an ONNX file"):
        _frozen.of_onnx(path)
