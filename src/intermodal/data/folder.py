"""A folder of files with ``metadata.jsonl`` as a data source, and any other table of rows.

    {"image_file_name": "a/1.png", "text": ["a dog", "a dog runs"], "split": "train", "width": 640}
     field image, a file            field text, two captions         which split       metadata

Nothing but the places of the rows is held; what was decoded is kept up to a number of bytes, so a small data set is
decoded once. A file that cannot be read is reported once, and its rows lack that field.
"""

import copy
import logging
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from intermodal import catalog
from intermodal.data.decoding import File, Files, Problem
from intermodal.data.rows import Row, Rows, check_names
from intermodal.data.table import Table
from intermodal.diorama.draws import uniform
from intermodal.errors import InvalidData, InvalidValue, UnknownName
from intermodal.types import Item, Sample

CACHE_BYTES = 512 * 2**20
PROBES = 64

logger = logging.getLogger(__name__)


def say(problem: Problem) -> None:
    """Logs a problem."""
    logger.warning("left out: %s", problem)


class Folder:
    """The rows of one split of a folder, or of another table; sample ``i`` is row ``i``.

    A row that has several texts in a field shows one of them, drawn by row and epoch; over as many epochs as there are
    texts each is shown once. Fields of a row that have equally many texts show the one at the same place, so that a
    list of answers stays with its list of questions.

    Attributes:
        fields: field name -> modality.
        problems: what could not be read so far, each once.
    """

    def __init__(
        self,
        path: str | Path | Rows,
        split: str | None = None,
        fields: Sequence[str] | None = None,
        require: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
        seed: int = 0,
        report: Callable[[Problem], None] = say,
    ) -> None:
        """Reads the metadata and tries a few files of each field.

        Args:
            path: holds ``metadata.jsonl``, or sub-folders ``train``, ``test``, ... that do; or a table of rows, made
                with the same split, fields and require.
            split: the rows of this split; None for all. ``validation`` and ``val`` are words for ``dev``.
            fields: which fields the samples have; None for all. Rows that have none of them are left out.
            require: leave out the rows that lack one of these.
            cache_bytes: how much of what was decoded is kept in memory; the least recently used goes first.
            seed: of the draw among several texts.
            report: called with each problem, once; logs it by default. Threads may call it.

        Raises:
            InvalidData: no metadata, a line that is no row, a path that leaves the folder, no row left, or a field of
                which no file can be read.
            UnknownName: a split or field that the folder does not have.
        """
        check_names(fields, require)
        if cache_bytes < 0:
            raise InvalidValue(f"cache_bytes is {cache_bytes}; give 0 to keep nothing, or more")
        self._split, self._seed, self._epoch = split, seed, 0
        self._table: Rows = Table(Path(path), split, fields, require) if isinstance(path, str | Path) else path
        self.fields = {name: m for name, m in self._table.fields.items() if fields is None or name in fields}
        self._files = Files(self._table, cache_bytes, report)
        self.problems = self._files.problems
        for place, file, reason in self._table.unknown:
            self._unusable(place, file, reason)
        self._probe()

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._table)

    @property
    def cached_bytes(self) -> int:
        """How many bytes of decoded items are held now."""
        return self._files.cache.bytes

    def samples(self, index: Sequence[int]) -> list[Sample]:
        """Returns the rows ``index``; a field that is absent or cannot be read is a missing key.

        Raises:
            InvalidValue: an index outside the rows.
            InvalidData: a link that leaves the folder.
        """
        rows = self._rows(index)
        files = [self._media(row) for row in rows]
        items = self._files.open(file for of_row in files for file in of_row.values())
        draws = uniform(self._seed, "caption", np.asarray(index, np.int64), 1)[:, 0].tolist()
        return [self._sample(*parts, items) for parts in zip(rows, files, draws, strict=True)]

    def at_epoch(self, epoch: int) -> Self:
        """Returns the same rows as they are in ``epoch``, with another of several texts; it shares what was decoded."""
        view = copy.copy(self)
        view._epoch = epoch
        return view

    def captions(self, index: int, field: str | None = None) -> tuple[str, ...]:
        """Returns all texts of a row; empty where it has none.

        Args:
            index: the row.
            field: which text field; None for the only one.

        Raises:
            InvalidValue: ``field`` was left out and there is not exactly one text field.
            UnknownName: no such text field.
        """
        known = [name for name, modality in self.fields.items() if modality == "text"]
        if field is None and len(known) != 1:
            raise InvalidValue(f"the text fields are {', '.join(known) or '(none)'}; say which one")
        name = known[0] if field is None else field
        if name not in known:
            raise UnknownName("text field", name, known)
        row = self._rows([index])[0]
        items = self._files.open(file for field, file in self._media(row).items() if field == name)
        return row.texts.get(name) or tuple(item.text for item in items.values())  # type: ignore[attr-defined]

    def texts(self, field: str, index: Iterable[int]) -> list[str]:
        """Returns all texts that the rows hold in a text field, those in files left out; opens no media."""
        return [words for row in self._rows(index) for words in row.texts.get(field, ())]

    def metadata(self, index: int) -> dict[str, Any]:
        """Returns the columns of a row that are no fields: numbers, booleans and objects, and its ``split``."""
        row = self._rows([index])[0]
        return {**self._table.metadata(row), **({"split": row.split} if row.split is not None else {})}

    def keys(self, index: Sequence[int], *fields: str) -> list[Hashable]:
        """Returns for each row what ``fields`` tell of it: equal keys cannot be told apart through them.

        If one of the fields is a text, that is the set of its texts; else it is the row itself.
        """
        texts = [name for name in fields if self.fields.get(name) == "text"]
        if not texts:
            return [int(i) for i in index]
        rows = self._table.rows(index)
        return [tuple(frozenset(row.texts.get(n) or (row.media.get(n),)) for n in texts) for row in rows]

    def describe(self) -> dict[str, Any]:
        """Returns what a report should say of this data."""
        counts = {name: self._table.counts.get(name, 0) for name in self.fields}
        return {
            "name": self._table.name,
            "split": self._split,
            "count": len(self),
            "seed": self._seed,
            "fields": dict(self.fields),
            "rows_with": counts,
            "rows_left_out": self._table.left_out,
            "problems": len(self.problems),
            **self._table.about,
        }

    def close(self) -> None:
        """Ends the threads and closes the files; the folder can be used on, and opens them again."""
        self._files.close()
        self._table.close()

    def _rows(self, index: Iterable[int]) -> list[Row]:
        """Returns rows; what of them cannot be used is reported."""
        rows = self._table.rows(index)
        for row in rows:
            for path, reason in row.unknown.items():
                self._unusable(row.place, path, reason)
        return rows

    def _unusable(self, place: str, path: str, reason: str) -> None:
        """Reports a file that cannot be used."""
        self._files.add_problem(f"{place}/{path}", Problem(place, path, reason))

    def _media(self, row: Row) -> dict[str, File]:
        """Returns the files of a row by field."""
        files = {}
        for name, path in row.media.items():
            modality = self.fields.get(name)
            if modality is not None:
                files[name] = File(f"{modality}:{row.folder}{os.sep}{path}", modality, path, row)
        return files

    def _sample(self, row: Row, files: dict[str, File], draw: float, items: dict[str, Item]) -> Sample:
        """Returns one row as a sample, its fields in the order of ``self.fields``."""
        sample = dict[str, Item]()
        for name in self.fields:
            file = files.get(name)
            texts = row.texts.get(name)
            if file is not None:
                if file.key in items:
                    sample[name] = items[file.key]
            elif texts:
                words = texts[(int(draw * len(texts)) + self._epoch) % len(texts)]
                try:
                    sample[name] = catalog.module("modalities", "text").ITEM(words)
                except InvalidValue as error:
                    self._files.add_problem(f"{row.place}/{name}/{words}", Problem(row.place, name, str(error)))
        return sample

    def _probe(self) -> None:
        """Opens files of each field until one can be read.

        Raises:
            InvalidData: of some field none of the files tried can be read; the message shows the first reason.
        """
        spread = np.linspace(0, len(self) - 1, min(PROBES, len(self))).astype(np.int64).tolist()
        for name in self.fields:
            tried, before = 0, len(self.problems)
            for i in dict.fromkeys([*self._table.first.get(name, ()), *spread]):
                file = self._media(self._table.rows([i])[0]).get(name)
                if file is None:
                    continue
                tried += 1
                if self._files.open([file]):
                    break
            else:
                if tried and len(self.problems) > before:
                    raise InvalidData(
                        f"none of {tried} files of the field {name!r} in {self._table.name} can be read, beginning "
                        f"with {self.problems[before]}"
                    )
