import dataclasses

import numpy as np
import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.evaluation.features import FeatureFigures, feature_rows


def test_a_figure_says_what_it_depends_on():
    record = FeatureFigures({"frechet_distance": 1.25}, "tiny CNN, last layer", 64, 1000, 2000)
    assert str(record) == ("frechet_distance 1.25 (1,000 items against 2,000; 64 features of tiny CNN, last layer)")
    assert dataclasses.asdict(record)["network"] == "tiny CNN, last layer"
    assert "against" not in str(FeatureFigures({}, "a", 1, 1))


@pytest.mark.parametrize("name", ["", " "])
def test_a_network_without_a_name_is_refused(name):
    with pytest.raises(InvalidValue, match="has no name"):
        FeatureFigures({"frechet_distance": 1.25}, name, 64, 1000, 2000)


def test_rows_become_double_precision():
    assert feature_rows(torch.ones(2, 3, dtype=torch.float32), "real").dtype == np.float64
    assert feature_rows(np.ones((2, 3), np.uint8), "real").tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("rows", [np.ones((0, 3)), np.ones((3, 0)), np.array([[np.inf, 1.0]])])
def test_rows_that_say_nothing_are_refused(rows):
    with pytest.raises(InvalidValue, match="of the real items"):
        feature_rows(rows, "real")
