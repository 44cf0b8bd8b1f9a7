"""``intermodal embed``: files, folders, archives and words to unit vectors, as many as there are.

Vectors go to the disk as they are made, so memory does not grow with their number. The npz file is written beside its
place and renamed: it is whole or absent.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say

if TYPE_CHECKING:
    import numpy as np

SHOWN = 20  # failures that are told to a person
ROWS = 4096  # names copied at a time


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, or a shipped one's name.")],
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, globs and zip archives; anything that is no file is taken as text."),
    ],
    out: Annotated[Path, typer.Option(help="npz file for `vectors`, `names` and `modalities`.")] = Path("vectors.npz"),
    precision: Annotated[
        str | None, typer.Option(help="Of the computation, such as fp32 or bf16; default: the model's own choice.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Numbers kept of each vector; for models trained with matryoshka.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Turn files and words into unit vectors of one space; what cannot be read is reported, the rest is done."""
    from intermodal import runtime
    from intermodal.cli.items import embedding
    from intermodal.data.stream import stream
    from intermodal.errors import InvalidData

    runtime.threads()
    loaded = embedding(model)
    total = sum(_count(given) for given in inputs)
    failed = []
    with Vectors(out) as vectors, bar("embedding") as progress, ExitStack() as archives:
        named = _Named(inputs, archives)
        for done, one in enumerate(stream(loaded, named, precision, width), 1):
            name = named.names.pop(0)
            if one.vector is None:
                failed.append({"source": name, "reason": one.error})
            else:
                vectors.add(one.vector, name, one.modality)
            if done % 16 == 0 or done == total:
                progress.update(min(1.0, done / max(1, total)), f"{done:,} of {total:,}, {len(failed):,} failed")
        for problem in failed[:SHOWN]:
            say(f"skipped {problem['source']}: {problem['reason']}")
        if len(failed) > SHOWN:
            say(f"and {len(failed) - SHOWN} more; all of them with --json")
        if not vectors.count:
            raise InvalidData(f"none of the {total} inputs could be embedded; the reasons stand above")
        vectors.write()
    result = {"out": str(out), "count": vectors.count, "width": vectors.width, "failed": failed}
    text = f"{vectors.count} vectors of {vectors.width} dimensions in {out}; {len(failed)} inputs skipped"
    finish(result, json, text, f"intermodal index my-library FOLDER --model {model}")


class _Named:
    """Everything that was asked for, one source after the other; ``names`` holds what those given out are called."""

    def __init__(self, inputs: list[str], archives: ExitStack) -> None:
        self._inputs, self._archives = inputs, archives
        self.names: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        for given in self._inputs:
            for name, source in _sources(given, self._archives):
                self.names.append(name)
                yield source


def _is_archive(words: str) -> bool:
    """Returns whether ``words`` are the path of a zip archive."""
    return words.lower().endswith(".zip") and Path(words).is_file() and zipfile.is_zipfile(words)


def _count(words: str) -> int:
    """Returns how many sources ``_sources`` will give."""
    from intermodal.cli.items import is_many

    if is_many(words):
        from intermodal.library.sources import count

        return count([words])
    if _is_archive(words):
        from intermodal.data.stream import members

        with zipfile.ZipFile(words) as archive:
            return sum(1 for _ in members(archive))
    return 1


def _sources(words: str, archives: ExitStack) -> Iterator[tuple[str, Any]]:
    """Gives names and sources: the files that ``words`` stand for, or the text that they are.

    Args:
        words: as they were typed.
        archives: keeps an archive open until its members were read.
    """
    from intermodal.cli.items import is_many, text_of
    from intermodal.data.stream import members
    from intermodal.errors import UnreadableMedia

    if is_many(words):
        from intermodal.library.sources import walk

        for source in walk([words], {}):
            yield source.name, source.path or _Unreadable(source.name, source.error)
    elif _is_archive(words):
        for member in members(archives.enter_context(zipfile.ZipFile(words))):
            yield f"{words}/{member.name}", member
    else:
        try:
            text = text_of(words)
        except UnreadableMedia as error:
            yield words, _Unreadable(words, str(error))
        else:
            yield words, Path(words) if text is None else text


class _Unreadable:
    """A source of which it is known already why it cannot be read."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self._reason = name, reason

    def read_bytes(self) -> bytes:
        """Raises the reason."""
        from intermodal.errors import UnreadableMedia

        raise UnreadableMedia(self._reason)


class Vectors:
    """An npz file that grows row by row: on disk at once, so that the number of rows does not matter."""

    def __init__(self, path: Path) -> None:
        """Makes the folder and temporary files in it.

        Args:
            path: of the npz file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path.parent / path.name if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        self._folder = tempfile.TemporaryDirectory(prefix=".embedding-", dir=path.parent)
        here = Path(self._folder.name)
        self._rows: IO[bytes] = (here / "rows").open("w+b")
        self._words: dict[str, IO[bytes]] = {n: (here / n).open("w+b") for n in ("names", "modalities")}
        self._longest = {"names": 1, "modalities": 1}
        self.count = self.width = 0

    def __enter__(self) -> "Vectors":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the temporary files."""
        for file in (self._rows, *self._words.values()):
            file.close()
        self._folder.cleanup()

    def add(self, vector: "np.ndarray", name: str, modality: str) -> None:
        """Adds a row.

        Args:
            vector: float32 ``(D,)``.
            name: of its source.
            modality: of its item.
        """
        self._rows.write(vector.tobytes())
        for field, word in (("names", name), ("modalities", modality)):
            word = word.rstrip("\0")  # arrays of strings cannot hold these
            data = word.encode("utf-8", "surrogatepass")
            self._words[field].write(len(data).to_bytes(4, "little") + data)
            self._longest[field] = max(self._longest[field], len(word))
        self.count, self.width = self.count + 1, len(vector)

    def write(self) -> None:
        """Puts the file in its place."""
        import os
        import shutil

        import numpy as np
        from numpy.lib import format as npy

        beside = Path(self._folder.name) / "whole.npz"
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for field in ("vectors", *self._words):
                kind = np.dtype(np.float32) if field == "vectors" else np.dtype(f"U{self._longest[field]}")
                shape = (self.count, self.width) if field == "vectors" else (self.count,)
                with archive.open(f"{field}.npy", "w", force_zip64=True) as member:
                    header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
                    npy.write_array_header_2_0(member, header)
                    if field == "vectors":
                        self._rows.seek(0)
                        shutil.copyfileobj(self._rows, member, 2**20)
                    else:
                        for words in self._batches(field):
                            member.write(np.array(words, kind).tobytes())
        os.replace(beside, self._path)

    def _batches(self, field: str) -> Iterator[list[str]]:
        """Gives the words of a field, some at a time."""
        file = self._words[field]
        file.seek(0)
        for start in range(0, self.count, ROWS):
            lengths = range(start, min(start + ROWS, self.count))
            yield [file.read(int.from_bytes(file.read(4), "little")).decode("utf-8", "surrogatepass") for _ in lengths]
