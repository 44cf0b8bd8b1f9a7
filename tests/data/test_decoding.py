"""Bytes become the items that their files would, and messages name the file."""

from pathlib import Path

import numpy as np
import pytest

from intermodal.data.decoding import opened
from intermodal.errors import UnreadableMedia
from intermodal.modalities.timeseries import TimeSeries
from tests.data_files import picture


def test_bytes_are_opened_as_their_file_is(tmp_path: Path) -> None:
    path = picture(7).save(tmp_path / "a.png")
    assert opened("image", path.read_bytes(), "a.png") == opened("image", str(path), "a.png") == picture(7)


def test_a_table_of_one_column_is_told_by_its_name(tmp_path: Path) -> None:
    series = TimeSeries(np.arange(5, dtype=np.float32)[None], ("x",), 2.0)
    data = series.save(tmp_path / "a.csv").read_bytes()
    assert opened("timeseries", data, "a.csv") == series


def test_messages_name_the_file() -> None:
    with pytest.raises(UnreadableMedia, match=r"^17\.left\.png is text \(txt\), no picture"):
        opened("image", b"no picture", "17.left.png")
