"""Our transformer in scikit-learn's own hands."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from intermodal.data.embedder import Embedder
from intermodal.errors import InvalidData, InvalidValue, MissingExtra, UnknownName, Unsupported
from intermodal.modalities.text import Text
from intermodal.saving import save_model
from intermodal.systems.clip import build, sized
from intermodal.tokenizers.byte import ByteTokenizer
from tests.library.fake import FakeModel, image, text

MODEL = FakeModel()
WORDS = [f"kind {n % 2}, number {n}" for n in range(12)]
LABELS = [n % 2 for n in range(12)]
APPLICABLE = (
    "do_not_raise_errors_in_init_or_set_params",
    "estimator_cloneable",
    "estimator_repr",
    "estimator_tags_renamed",
    "estimators_unfitted",
    "get_params_invariance",
    "mixin_order",
    "no_attributes_set_in_init",
    "parameters_default_constructible",
    "set_params",
    "transformers_unfitted",
    "valid_tag_types",
)
"""scikit-learn's checks that feed no numbers; all others need a matrix of them as input."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a tiny model."""
    return save_model(
        tmp_path_factory.mktemp("model") / "clip",
        build(sized("tiny", {"text": "text", "image": "image"}, ByteTokenizer())),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Returns pictures of two kinds."""
    folder = tmp_path_factory.mktemp("pictures")
    return [image(20 + 40 * (n % 2), n).save(folder / f"{n}.png") for n in range(12)]


@pytest.mark.parametrize("name", APPLICABLE)
def test_scikit_learns_checks_hold(name: str) -> None:
    getattr(estimator_checks, f"check_{name}")("Embedder", Embedder())


def test_a_pipeline_gives_what_the_parts_give_by_hand() -> None:
    chain = make_pipeline(Embedder(MODEL), LogisticRegression()).fit(WORDS, LABELS)
    rows = MODEL.embed([Text(words) for words in WORDS]).numpy()
    by_hand = LogisticRegression().fit(rows, LABELS)
    np.testing.assert_allclose(chain.predict_proba(WORDS), by_hand.predict_proba(rows), atol=1e-6)
    assert list(chain[:-1].get_feature_names_out()) == [f"embedder{i}" for i in range(32)]


def test_paths_strings_items_bytes_and_columns_are_the_same(files: list[Path]) -> None:
    expected = Embedder(MODEL).fit_transform([image(20 + 40 * (n % 2), n) for n in range(12)])
    assert expected.dtype == np.float32
    column = np.array([str(path) for path in files], dtype=object)[:, None]
    for given in (files, [path.read_bytes() for path in files]):
        np.testing.assert_array_equal(Embedder(MODEL).fit(given).transform(given), expected)
    for given in ([str(path) for path in files], np.array([str(path) for path in files]), column):
        np.testing.assert_array_equal(Embedder(MODEL, strings="path").fit_transform(given), expected)


def test_a_search_over_settings(files: list[Path]) -> None:
    chain = make_pipeline(Embedder(MODEL, strings="path"), LogisticRegression(C=100.0))
    search = GridSearchCV(chain, {"embedder__width": [6, None], "embedder__strings": ["path"]}, cv=2)
    search.fit([str(path) for path in files], LABELS)
    assert search.best_score_ == 1.0
    np.testing.assert_array_equal(search.predict(files), LABELS)


def test_a_model_by_its_name_is_not_pickled(saved: Path) -> None:
    chain = make_pipeline(Embedder(saved, width=64), LogisticRegression()).fit(WORDS, LABELS)
    kept = pickle.dumps(chain)
    assert len(kept) < 20_000  # no weights
    np.testing.assert_array_equal(pickle.loads(kept).predict_proba(WORDS), chain.predict_proba(WORDS))


def test_a_column_of_a_table() -> None:
    table = np.array([[words, i] for i, words in enumerate(WORDS)], dtype=object)
    made = ColumnTransformer([("words", Embedder(MODEL), [0]), ("number", "passthrough", [1])]).fit_transform(table)
    np.testing.assert_allclose(made[:, :32].astype(np.float32), Embedder(MODEL).fit_transform(WORDS))


def test_shorter_vectors_are_cut_and_of_unit_length() -> None:
    whole, short = Embedder(MODEL).fit_transform(WORDS), Embedder(MODEL, width=16).fit(WORDS)
    cut = whole[:, :16] / np.linalg.norm(whole[:, :16], axis=1, keepdims=True)
    np.testing.assert_allclose(short.transform(WORDS), cut, atol=1e-6)
    assert len(short.get_feature_names_out()) == 16
    with pytest.raises(InvalidData, match="width is 33, and the vectors have 32 numbers"):
        Embedder(MODEL, width=33).fit(WORDS)


def test_a_copy_shares_the_model_and_is_not_fitted() -> None:
    fitted = Embedder(MODEL, width=16).fit(WORDS)
    copy = clone(fitted)
    assert copy.model is MODEL
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError, match="call fit first"):
        copy.transform(WORDS)
    assert "model='FakeModel'" in repr(copy)


def test_a_model_that_was_replaced_is_loaded_anew(saved: Path, tmp_path: Path) -> None:
    config = sized("tiny", {"text": "text", "image": "image"}, ByteTokenizer())
    folder = save_model(tmp_path / "model", build(config))
    before = Embedder(folder).fit_transform(WORDS)
    np.testing.assert_array_equal(Embedder(folder).fit_transform(WORDS), before)
    save_model(folder, build(config))
    assert np.abs(Embedder(folder).fit_transform(WORDS) - before).max() > 0.01


def test_what_cannot_be_embedded_is_named(tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(InvalidData, match=r"2 of 3 rows cannot be embedded: row 1 \(.*gone.png.*; row 2 .*leave them"):
        Embedder(MODEL).fit_transform([files[0], tmp_path / "gone.png", b"\x00\x01"])
    for given, sentence in (
        ("one text", "X is one str"),
        (text(1), "X is one Text"),
        ([], "X has 0 rows"),
        (np.array([], dtype=object), "X has 0 rows"),
        (np.zeros((3, 2)), "X has the shape"),
        ([1.5], "a row of X is float"),
        ([str(files[0])], "is a file, and strings are texts here"),
    ):
        with pytest.raises(InvalidValue, match=sentence):
            Embedder(MODEL).fit(given)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UnknownName, match="'words'.*path, text"):
        Embedder(MODEL, strings="words").fit(WORDS)
    with pytest.raises(UnknownName, match="'length'.*model, strings, width"):
        Embedder().set_params(length=3)
    with pytest.raises(Unsupported, match="does not embed"):
        Embedder(object()).fit(WORDS)
    with pytest.raises(Unsupported, match="'pandas'"):
        Embedder().set_output(transform="pandas")


def test_without_the_library_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    with pytest.raises(MissingExtra, match=r"intermodal\[sklearn\]"):
        Embedder(MODEL).transform(WORDS)
    assert Embedder(MODEL).fit_transform(WORDS).shape == (12, 32)
