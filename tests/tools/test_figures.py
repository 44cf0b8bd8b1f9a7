"""Figures are recorded whole, shown as tables, and found stale."""

import datetime
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import figures
from figures import FiguresError, record

COMMAND = "python3 dev.py bench search"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "design").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# A\n\n<!-- figures:search -->\nold\n<!-- /figures -->\n\nend\n")
    return tmp_path


def test_a_record_holds_everything_and_replaces_the_one_of_its_name(project: Path) -> None:
    record("search.ms", 95, "ms", "below 100", COMMAND, root=project)
    record("load.s", 1.5, "s", "", COMMAND, "loading", root=project)
    entry = record("search.ms", 5.25, "ms", "below 100", COMMAND, root=project)
    stored = json.loads((project / "docs" / "figures.json").read_text())
    assert [e["name"] for e in stored] == ["load.s", "search.ms"]
    assert stored[1] == entry
    assert set(entry) == {"name", "value", "unit", "asked", "command", "note", "machine", "date"}
    assert entry["value"] == 5.25
    assert entry["date"] == datetime.date.today().isoformat()
    assert int(entry["machine"].split(" core")[0]) >= 1
    assert not entry["machine"].endswith(", ")


def test_numbers_of_other_libraries_are_stored_as_numbers(project: Path) -> None:
    import numpy as np

    assert record("a", np.float32(0.5), "", "", COMMAND, root=project)["value"] == 0.5
    assert record("b", np.int64(3), "", "", COMMAND, root=project)["value"] == 3
    assert figures.load(project)["b"]["value"] == 3


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("Search ms", 1.0, COMMAND),
        ("search.", 1.0, COMMAND),
        ("", 1.0, COMMAND),
        ("search.ms", float("nan"), COMMAND),
        ("search.ms", float("inf"), COMMAND),
        ("search.ms", 1.0, " "),
    ],
)
def test_what_cannot_be_shown_is_refused_and_changes_nothing(
    project: Path, name: str, value: float, command: str
) -> None:
    record("search.ms", 7.0, "ms", "", COMMAND, root=project)
    before = (project / "docs" / "figures.json").read_bytes()
    with pytest.raises(FiguresError):
        record(name, value, "ms", "", command, root=project)
    assert (project / "docs" / "figures.json").read_bytes() == before


def test_a_record_that_fails_midway_leaves_the_old_file_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record("search.ms", 7.0, "ms", "", COMMAND, root=project)
    before = sorted((project / "docs").iterdir())

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(figures.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        record("search.ms", 8.0, "ms", "", COMMAND, root=project)
    assert sorted((project / "docs").iterdir()) == before
    assert figures.load(project)["search.ms"]["value"] == 7.0


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_records_made_at_once_are_all_kept(project: Path) -> None:
    threads = [
        threading.Thread(target=record, args=(f"a.n{i}", i, "", "", COMMAND), kwargs={"root": project})
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry["value"] for entry in figures.load(project).values()} == set(range(12))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        (12304, "12,304"),
        (0.123456, "0.1235"),
        (95.678, "95.68"),
        (54321.9, "54,322"),
        ("none", "none"),
    ],
)
def test_values_are_shown_for_people(value: float | str, text: str) -> None:
    assert figures.shown(value) == text


def test_a_table_has_its_group_and_no_other(project: Path) -> None:
    record("search.exact_ms", 95, "ms", "below 100", COMMAND, root=project)
    record("search.speedup", 19.04, "x", "", "a | b", "index against scan", root=project)
    record("searching.ms", 1, "ms", "", COMMAND, root=project)
    lines = figures.table("search", figures.load(project)).splitlines()
    assert lines[:4] == [
        "| what | measured | asked | command |",
        "|---|---|---|---|",
        f"| exact ms | 95 ms | below 100 | `{COMMAND}` |",
        "| index against scan | 19.04x | - | `a \\| b` |",
    ]
    assert lines[4] == ""
    assert lines[5].endswith(f"{datetime.date.today().isoformat()}.")
    assert len(lines) == 6


def test_documents_are_found_stale_updated_and_then_left_alone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record("search.ms", 5, "ms", "", COMMAND, root=project)
    note = project / "docs" / "design" / "0001-a.md"
    note.write_text("<!-- figures:search.ms -->\n<!-- /figures -->\n")
    assert figures.main(["--check"], project) == 1
    assert "README.md is stale" in capsys.readouterr().out
    assert figures.main(["--update"], project) == 0
    assert figures.main(["--check"], project) == 0
    text = (project / "README.md").read_text()
    assert text.startswith("# A\n\n<!-- figures:search -->\n| what |")
    assert text.endswith(".\n<!-- /figures -->\n\nend\n")
    assert "old" not in text
    assert "| search.ms | 5 ms |" in note.read_text()
    record("search.ms", 6, "ms", "", COMMAND, root=project)
    assert figures.main(["--check"], project) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- figures:nothing -->\n<!-- /figures -->\n", "no figure is recorded under 'nothing'"),
        ("<!-- figures:search -->\n", "is not closed"),
        ("<!-- figures:search -->\n<!-- figures:search -->\n<!-- /figures -->\n", "is not closed before"),
        ("<!-- /figures -->\n", "never opened"),
    ],
)
def test_a_wrong_block_is_named_with_its_document(
    project: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record("search.ms", 5, "ms", "", COMMAND, root=project)
    (project / "README.md").write_text(text)
    assert figures.main(["--update"], project) == 2
    error = capsys.readouterr().err
    assert error.startswith("figures: README.md: ")
    assert message in error
    assert (project / "README.md").read_text() == text


def test_a_marker_inside_a_sentence_or_code_is_text() -> None:
    text = "write `<!-- figures:x -->` and\n    <!-- /figures -->\n"
    assert figures.filled(text, {}) == text


def test_the_script_runs_as_a_command() -> None:
    script = Path(figures.__file__)
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True)
    assert "--update" in done.stdout
