import json
import os
from pathlib import Path
from typing import Any

import pytest

from intermodal.errors import InvalidValue
from intermodal.library.sources import GROUP, check, content_key, count, walk
from tests.library.fake import FakeDataset, image, text


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/deep/d.txt", ".hidden/e.txt", "sub/.f.txt", "lib/g.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "lib" / "library.json").write_text("{}")
    os.symlink(tmp_path / "sub", tmp_path / "loop")
    os.symlink(tmp_path / "b.txt", tmp_path / "sub" / "linked.txt")
    return tmp_path


def found(tree: Path, *given: Any, **metadata: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(os.path.relpath(source.name, tree), dict(source.metadata)) for source in walk(given, metadata)]


ALL = ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "sub/linked.txt"]


def test_a_folder_is_walked_in_order_without_hidden_files_and_libraries(tree: Path) -> None:
    assert [name for name, _ in found(tree, tree)] == ALL
    assert [name for name, _ in found(tree, str(tree))] == ALL


def test_relative_paths_become_absolute(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert [source.name for source in walk(["sub/deep", "a.txt"], {})] == [
        str(tree / "sub/deep/d.txt"),
        str(tree / "a.txt"),
    ]


def test_patterns(tree: Path) -> None:
    assert [name for name, _ in found(tree, f"{tree}/*.txt")] == ["a.txt", "b.txt"]
    assert [name for name, _ in found(tree, f"{tree}/sub/**/d.txt")] == ["sub/deep/d.txt"]
    odd = tree / "odd[1].txt"
    odd.write_text("odd")
    assert [name for name, _ in found(tree, odd)] == ["odd[1].txt"]


def test_metadata_of_a_folder(tree: Path) -> None:
    lines = [
        {"file_name": "a.txt", "year": 1990, "place": "Oslo", "none": None},
        {"image_file_name": "sub/c.txt", "text_file_name": "./b.txt", "year": 1991},
        {"file_name": "absent.txt", "year": 1},
    ]
    (tree / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    (tree / "sub" / "metadata.jsonl").write_text(json.dumps({"file_name": "c.txt", "year": 2000}))
    told = dict(found(tree, tree, place="Rom"))
    assert list(told) == ALL
    assert told["a.txt"] == {"year": 1990, "place": "Rom"}
    assert told["b.txt"] == {"year": 1991, "place": "Rom"}
    assert told["sub/c.txt"] == {"year": 2000, "place": "Rom"}
    assert told["sub/deep/d.txt"] == {"place": "Rom"}


def test_lines_that_are_no_metadata_are_reported(tree: Path) -> None:
    good = json.dumps({"file_name": "a.txt", "year": 1990}).encode()
    (tree / "metadata.jsonl").write_bytes(
        b'{"file_name": \n[1]\n{"year": 3}\n\xff\xfe\n' + good + b"\n" + b"[" * 100_000
    )
    sources = list(walk([tree], {}))
    errors = {source.name.rpartition(":")[2]: source.error for source in sources if source.error}
    assert set(errors) == {"1", "2", "3", "4", "6"}
    assert all("is no line of metadata" in error for error in errors.values())
    assert {source.metadata.get("year") for source in sources if source.name.endswith("/a.txt")} == {1990}


def test_items_samples_and_iterables() -> None:
    sample = {"image": image(1), "text": text(1)}
    given = [text(1), sample, [text(2), (image(2),)], (text(n) for n in range(2)), 17]
    sources = list(walk(given, {"a": 1}))
    assert [source.items for source in sources[:-1]] == [
        {"": text(1)}, sample, {"": text(2)}, {"": image(2)}, {"": text(0)}, {"": text(1)},
    ]  # fmt: skip
    assert "not a path" in sources[-1].error
    assert all(source.metadata == {"a": 1} for source in sources)


def test_a_dataset_is_given_in_groups() -> None:
    dataset = FakeDataset(2 * GROUP + 3)
    sources = list(walk([dataset], {}))
    assert [len(source.index) for source in sources] == [GROUP, GROUP, 3]
    assert {source.name for source in sources} == {"fake:test"}
    assert dataset.made == 0


def test_what_is_counted_is_what_is_walked(tree: Path) -> None:
    given = [
        tree,
        f"{tree}/*.txt",
        str(tree / "a.txt"),
        text(1),
        {"a": text(2)},
        [image(1), tree / "sub"],
        FakeDataset(40),
    ]
    assert count(given) == len(list(walk(given, {})))
    assert count([text(1), iter([text(2)])]) == 0


@pytest.mark.parametrize("wrong", ["nothing/here", "*.nothing", b"bytes", 3, None])
def test_what_is_no_source_is_refused_at_once(tmp_path: Path, wrong: Any) -> None:
    given = str(tmp_path / wrong) if isinstance(wrong, str) else wrong
    with pytest.raises(InvalidValue, match="give|open them"):
        check([given])


def test_what_is_a_source(tree: Path) -> None:
    check([tree, str(tree / "a.txt"), f"{tree}/*.txt", text(1), {"a": text(1)}, FakeDataset(), [1], iter(())])


def test_content_keys() -> None:
    keys = {content_key(*parts) for parts in (("a",), ("a", 0), ("a", "0"), ({"a": 1},), ("ab",), ("\ud800",))}
    assert len(keys) == 6
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert all(len(bytes.fromhex(key)) == 16 for key in keys)
