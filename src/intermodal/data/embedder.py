"""A scikit-learn transformer over any model that embeds: paths, items or strings in, vectors out.

    make_pipeline(Embedder("diorama", strings="path"), LogisticRegression()).fit(paths, labels)

It keeps scikit-learn's contract by what it has (``get_params``, ``__sklearn_tags__``, ...) and not by its base classes,
so that the library is needed only where it is used. The model stays as it is: fitting learns how long its vectors are
and nothing else. A model given by its name is loaded once per process, however often the transformer is cloned, and is
not part of what is pickled.

Left out: matrices of numbers as input, so that scikit-learn's checks which feed those do not apply
(``input_tags.two_d_array`` says so), and frames as output (``set_output``).
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float32

from intermodal import saving
from intermodal.data.stream import stream
from intermodal.errors import InvalidData, InvalidValue, MissingExtra, UnknownName, Unsupported
from intermodal.modalities.text import Text
from intermodal.types import Embeds

STRINGS = ("text", "path")
PARAMETERS = ("model", "strings", "width")
SHOWN = 3  # rows that an error names


class Embedder:
    """Items to unit vectors, as a step of scikit-learn's pipelines."""

    def __init__(self, model: Any = "diorama", *, strings: Any = "text", width: Any = None) -> None:
        """Keeps whatever is given, as scikit-learn expects; ``fit`` checks it.

        Args:
            model: a folder, the name of a shipped model or of the hub, or a model.
            strings: what a ``str`` in the input is: ``"text"``, or the ``"path"`` of a file. A ``Path`` always is one.
            width: only the first so many numbers of each vector, of unit length again; None for all.
        """
        self.model = model
        self.strings = strings
        self.width = width

    def __repr__(self) -> str:
        """Returns what would make it again."""
        shown = {name: getattr(self, name) for name in PARAMETERS}
        if not isinstance(self.model, str | Path):
            shown["model"] = type(self.model).__name__
        return f"Embedder({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    # ---- What it does

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Learns the length of the vectors from the first row, and returns itself.

        Args:
            X: N paths, strings, bytes of files or items: a list, an array ``(N,)`` or ``(N, 1)``, or a column.
            y: is not looked at.

        Raises:
            InvalidValue: there is nothing to embed, or it is of no kind that is read.
            InvalidData: the first row cannot be embedded.
            Unsupported: the model does not embed.
        """
        self.n_features_out_ = self._rows(self._sources(X)[:1]).shape[1]
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "N D"]:  # noqa: N803
        """Returns one unit vector per row, in the order given.

        Raises:
            NotFittedError: ``fit`` was not called.
            InvalidValue: there is nothing to embed, or it is of no kind that is read.
            InvalidData: rows cannot be embedded; names some of them, and why.
        """
        self._fitted()
        return self._rows(self._sources(X))

    def fit_transform(self, X: Any, y: Any = None) -> Float32[np.ndarray, "N D"]:  # noqa: N803
        """Returns what ``fit(X).transform(X)`` returns; no row is embedded twice."""
        rows = self._rows(self._sources(X))
        self.n_features_out_ = rows.shape[1]
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Returns ``embedder0``, ``embedder1``, ...: a name for each number of a vector.

        Raises:
            NotFittedError: ``fit`` was not called.
        """
        self._fitted()
        return np.array([f"embedder{i}" for i in range(self.n_features_out_)], dtype=object)

    def _sources(self, given: Any) -> list[Any]:
        """Returns what ``stream`` embeds: items, paths and bytes."""
        if self.strings not in STRINGS:
            raise UnknownName("kind of strings", str(self.strings), STRINGS)
        return [_source(one, self.strings) for one in _listed(given)]

    def _rows(self, sources: Sequence[Any]) -> Float32[np.ndarray, "N D"]:
        """Returns the vectors of sources."""
        rows, failed = [], []
        for number, done in enumerate(stream(_model(self.model), sources, width=self.width)):
            if done.vector is None:
                failed.append(f"row {number} ({done.error})")
            else:
                rows.append(done.vector)
        if failed:
            told = "; ".join(failed[:SHOWN]) + ("; ..." if len(failed) > SHOWN else "")
            raise InvalidData(f"{len(failed)} of {len(sources)} rows cannot be embedded: {told}; leave them out")
        return np.stack(rows)

    # ---- scikit-learn's contract

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns what it was made with, by name."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def set_params(self, **parameters: Any) -> Self:
        """Sets what it was made with, by name, and returns itself.

        Raises:
            UnknownName: there is no such name.
        """
        for name, value in parameters.items():
            if name not in PARAMETERS:
                raise UnknownName("parameter of Embedder", name, PARAMETERS)
            setattr(self, name, value)
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Returns itself; vectors come as arrays alone.

        Raises:
            Unsupported: another container is asked for.
        """
        if transform not in (None, "default"):
            raise Unsupported(f"Embedder gives NumPy arrays, not {transform!r}; make frames of them afterwards")
        return self

    def __sklearn_clone__(self) -> "Embedder":
        """Returns one that is not fitted; a model that is no name is shared, not copied."""
        return Embedder(self.model, strings=self.strings, width=self.width)

    def __sklearn_is_fitted__(self) -> bool:
        """Returns whether ``fit`` was called."""
        return hasattr(self, "n_features_out_")

    def __sklearn_tags__(self) -> Any:
        """Returns what scikit-learn is told of it."""
        tags = _sklearn("utils")
        return tags.Tags(
            estimator_type="transformer",
            target_tags=tags.TargetTags(required=False),
            transformer_tags=tags.TransformerTags(preserves_dtype=["float32"]),
            input_tags=tags.InputTags(one_d_array=True, two_d_array=False, string=True),
            no_validation=True,
        )

    def _fitted(self) -> None:
        """Raises NotFittedError where ``fit`` was not called."""
        if not self.__sklearn_is_fitted__():
            raise _sklearn("exceptions").NotFittedError("this Embedder is not fitted yet; call fit first")


def _sklearn(part: str) -> Any:
    """Returns a module of scikit-learn.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(f"sklearn.{part}")
    except ImportError as error:
        raise MissingExtra("scikit-learn", "sklearn", "a step of scikit-learn's pipelines") from error


def _listed(given: Any) -> list[Any]:
    """Returns the rows of a list, an array or a column.

    Raises:
        InvalidValue: there are none, or it is something else.
    """
    if isinstance(given, str | bytes | os.PathLike | Mapping) or hasattr(given, "modality"):
        raise InvalidValue(f"X is one {type(given).__name__}; give a list of paths, strings or items")
    rows = given.to_numpy() if hasattr(given, "to_numpy") else given
    if isinstance(rows, np.ndarray):
        if rows.ndim == 2 and rows.shape[1] == 1:
            rows = rows[:, 0]
        if rows.ndim != 1:
            raise InvalidValue(f"X has the shape {rows.shape}; give one column of paths, strings or items")
    listed = list(rows)
    if not listed:
        raise InvalidValue("X has 0 rows; give at least 1")
    return listed


def _source(one: Any, strings: str) -> Any:
    """Returns a row as what ``stream`` takes.

    Raises:
        InvalidValue: it is of no such kind, or a text that is the path of a file.
    """
    if isinstance(one, str):
        if strings == "path":
            return Path(one)
        if "." in one and os.path.isfile(one):
            raise InvalidValue(f"{one!r} is a file, and strings are texts here; say strings='path', or give im.Text")
        return Text(str(one))
    if isinstance(one, bytes | Path) or isinstance(getattr(type(one), "modality", None), str):
        return one
    raise InvalidValue(f"a row of X is {type(one).__name__}; give paths, strings, bytes of files or items")


def _model(given: Any) -> Embeds:
    """Returns the model that is given, or that a name stands for.

    Raises:
        Unsupported: it does not embed.
    """
    model = given
    if isinstance(given, str | Path):
        files = saving.folder_of(given).iterdir()
        model = _loaded(str(given), max(path.stat().st_mtime_ns for path in files))
    if not isinstance(model, Embeds):
        raise Unsupported(f"{given} does not embed, so it makes no vectors; give a model with embed")
    return model


@lru_cache(maxsize=2)
def _loaded(name: str, written: int) -> Any:
    """Returns a model by its name; ``written``, the time of its newest file, tells it from one there before."""
    return saving.load_model(name)
