"""What makes a store survive a power cut: everything written reaches the disk, and what did not is stepped over.

The table format writes a commit as new files and never asks the system to flush them. So after each commit the files
and their folders are flushed here. A power cut before that leaves, at worst, a newest version whose files are empty or
short: ``repair_table`` goes back to the newest version that is whole. Nothing is deleted: what was stepped over lies in
a folder beside the table.
"""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from intermodal.errors import StoreError

if TYPE_CHECKING:
    import lance

DAMAGED = "damaged"
_TRIED_MAX = 3  # versions that look whole and still cannot be read: then it is not they that are damaged
_HINT = "latest_version_hint.json"
_END = b"LANC"
_COUNTING_DOWN = len(".manifest") + 20  # of a name in the newer scheme; see _version_of


@dataclass(frozen=True)
class Repaired:
    """What a repair found and did.

    Attributes:
        moved: version files that could not be read; now in the folder ``damaged`` beside the table.
        restored: the version that was gone back to, because the newest lacked files; None where that was not needed.
        lost: items whose files are gone in every version; add their sources again.
        items: items the store holds now.
    """

    moved: tuple[str, ...]
    restored: int | None
    lost: int
    items: int


def write_durably(path: Path, data: str | bytes) -> None:
    """Writes a small file so that, after any crash, it is the old one or the new one, whole; a text as UTF-8."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with open(beside, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk; a system whose folders cannot be opened does it by itself."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path, done: set[str]) -> int:
    """Flushes the files below a folder that are not in ``done``, and their folders, to the disk; returns how many.

    Args:
        folder: the table; its files are never changed once written, but for the hint of the newest version.
        done: paths flushed before; those flushed now are added.
    """
    changed = {folder}
    count = 0
    for path in _files(folder):
        if path in done:
            continue
        try:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        except FileNotFoundError:
            continue  # tidied away by another process
        changed.add(Path(path).parent)
        count += 1
        if not path.endswith(_HINT):
            done.add(path)
    for each in changed:
        sync_folder(each)
    return count


def _files(folder: str | Path) -> Iterator[str]:
    """Gives the path of every file below a folder."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        else:
            yield entry.path


def manifests(table: Path) -> list[Path]:
    """Returns the version files of a table, the newest first; none where there is no table."""
    try:
        names = [name for name in os.listdir(table / "_versions") if name.endswith(".manifest")]
    except FileNotFoundError:
        return []
    return [table / "_versions" / name for name in sorted(names, key=_version_of, reverse=True)]


def newest_manifest(table: Path) -> str | None:
    """Returns the path of the newest version file; None where there is no table. Asked before every search."""
    folder = f"{table}/_versions"
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".manifest")]
    except FileNotFoundError:
        return None
    counting_down = min((name for name in names if len(name) == _COUNTING_DOWN), default="")  # compared quickly
    older = [name for name in names if len(name) != _COUNTING_DOWN]
    newest = max([counting_down, *older] if counting_down else older, key=_version_of, default=None)
    return None if newest is None else f"{folder}/{newest}"


def is_whole(manifest: Path) -> bool:
    """Returns whether a version file has its end; of one cut off, the format's reader may panic."""
    try:
        with open(manifest, "rb") as file:
            file.seek(max(0, manifest.stat().st_size - len(_END)))
            return file.read() == _END
    except FileNotFoundError:
        return False


def _version_of(name: str) -> int:
    """Returns the version that a file name stands for: the newer scheme counts down from 2^64 - 1 over 20 digits."""
    stem = name.partition(".")[0]
    if not stem.isdigit():
        return -1  # a detached version, never the newest
    return 2**64 - 1 - int(stem) if len(stem) == 20 else int(stem)


def broken_parts(dataset: "lance.LanceDataset", table: Path) -> list[int]:
    """Returns the numbers of the parts of a version of which a file is missing, short or long."""
    return [part.fragment_id for part in dataset.get_fragments() if not _is_whole(part, table)]


def _is_whole(part: "lance.LanceFragment", table: Path) -> bool:
    """Returns whether all files of a part are there with the length that the version says."""
    for file in part.metadata.files:
        path = table / "data" / file.path
        if not path.is_file() or (file.file_size_bytes and path.stat().st_size != file.file_size_bytes):
            return False
    deletions = part.deletion_file()
    return not deletions or ((table / deletions).is_file() and (table / deletions).stat().st_size > 0)


def repair_table(table: Path) -> Repaired:
    """Makes a table open and read again, and returns what was done; the caller holds the write lock.

    Version files that cannot be read are moved aside. Where the version then newest lacks files, an older one that is
    whole and holds no less is restored; where there is none, the parts without files are dropped and counted as lost.

    Raises:
        StoreError: there are versions, but none can be read.
    """
    moved = _move_unreadable(table)
    if not manifests(table):
        return Repaired(tuple(moved), None, 0, 0)
    restored, lost = _step_over_broken(table)
    sync_tree(table, set())
    import lance

    return Repaired(tuple(moved), restored, lost, lance.dataset(str(table)).count_rows())


def _move_unreadable(table: Path) -> list[str]:
    """Moves version files aside, newest first, until one opens; returns their names."""
    import lance

    moved: list[str] = []
    for manifest in manifests(table):
        whole = is_whole(manifest)
        try:
            if whole:
                lance.dataset(str(table)).count_rows()
                return moved
        except Exception as error:
            if len(moved) >= _TRIED_MAX:
                raise StoreError(
                    f"the store in {str(table.parent)!r} does not open even without its newest versions ({error}); "
                    "restore it from a copy"
                ) from error
        aside = table.parent / DAMAGED
        aside.mkdir(exist_ok=True)
        name = manifest.name
        os.replace(manifest, aside / f"{name}.{len(os.listdir(aside))}")
        (table / "_versions" / _HINT).unlink(missing_ok=True)
        sync_folder(manifest.parent)
        sync_folder(aside)
        moved.append(name)
    return moved


def _step_over_broken(table: Path) -> tuple[int | None, int]:
    """Returns the version restored, if one was, and how many rows were lost."""
    import lance

    newest = lance.dataset(str(table))
    broken = set(broken_parts(newest, table))
    if not broken:
        return None, 0
    whole = sum(f.count_rows() for f in newest.get_fragments() if f.fragment_id not in broken)
    for version in sorted((v["version"] for v in newest.versions()), reverse=True)[1:]:
        try:
            older = lance.dataset(str(table), version=version)
            if not broken_parts(older, table) and older.count_rows() >= whole:
                older.restore()  # type: ignore[no-untyped-call]
                return int(version), 0
        except Exception:  # as unreadable itself
            continue
    lost = sum(f.metadata.num_rows for f in newest.get_fragments() if f.fragment_id in broken)
    operation = lance.LanceOperation.Delete([], sorted(broken), json.dumps("files are missing"))
    lance.LanceDataset.commit(str(table), operation, read_version=newest.version)
    return None, lost
