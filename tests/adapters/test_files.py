"""Published files: settings are objects, weights are spent one by one, and all that is wrong is told at once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from intermodal.adapters import _files
from intermodal.errors import InvalidCheckpoint


def test_weights_of_several_files_are_one_set(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        save_file({name: torch.full((2,), value)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = _files.load(_files.weight_files(tmp_path))
    assert {name: value.tolist() for name, value in found.items()} == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    (tmp_path / "b.safetensors").write_bytes(b"damaged")
    with pytest.raises(InvalidCheckpoint, match=r"b\.safetensors cannot be read"):
        _files.load(_files.weight_files(tmp_path))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(InvalidCheckpoint, match=r"does not hold: b\.safetensors"):
        _files.weight_files(tmp_path)


def test_what_is_wrong_with_weights_is_told_at_once(tmp_path: Path) -> None:
    kinds = {"right": torch.ones(2, dtype=torch.float16), "long": torch.ones(3), "whole": torch.ones(2).long()}
    weights = _files.Weights({**kinds, "left": torch.ones(1)})
    right = weights.take("right", 2)
    assert right.dtype == torch.float32
    assert right.tolist() == [1.0, 1.0]
    for name in ("long", "whole", "absent"):
        assert weights.take(name, 2).tolist() == [0.0, 0.0]
    with pytest.raises(InvalidCheckpoint) as raised:
        weights.finish(tmp_path)
    for part in ("long is (3,), not (2,)", "whole holds int64", "missing absent", "unexpected left"):
        assert part in str(raised.value)


def test_numbers_are_whole_and_above_nothing() -> None:
    assert _files.number({"side": [48, 48]}, "side") == 48
    assert _files.number({}, "side", 7) == 7
    for wrong in (0, 1.5, True, [48, 32], "48"):
        with pytest.raises(InvalidCheckpoint, match="side is .*; expected a whole number"):
            _files.number({"side": wrong}, "side")


def test_settings_have_to_be_an_object(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content, sentence in (("[1]", "holds a list"), ("{", "cannot be read")):
        path.write_text(content)
        with pytest.raises(InvalidCheckpoint, match=sentence):
            _files.read_object(path)
