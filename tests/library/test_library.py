import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from intermodal.errors import InvalidValue, StoreError, UnknownName
from intermodal.library.filters import column, field
from intermodal.library.library import Library
from intermodal.library.windows import Windows
from tests.library.fake import MAKERS, FakeModel, audio, image, kind_of, text

ROOT = Path(__file__).parent.parent.parent
KINDS = (10, 20, 30, 40, 50, 60)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library.create(tmp_path_factory.mktemp("library") / "lib", FakeModel(gap=1.5))
    for kind in KINDS:
        items = [make(kind, number) for make in MAKERS.values() for number in range(8)]
        assert {kind_of(item) for item in items} == {kind}
        made.add(items, metadata={"kind": kind} | ({"place": "Oslo"} if kind < 40 else {}))
    return made


@pytest.fixture
def small(tmp_path: Path) -> Library:
    made = Library.create(tmp_path / "lib", FakeModel())
    made.add(text(n) for n in range(30))
    return made


def test_every_modality_finds_every_other(library: Library) -> None:
    for asker, make in MAKERS.items():
        for found in MAKERS:
            for kind in KINDS:
                hits = library.search(make(kind, 9), among=found, top=8)
                assert {hit.modality for hit in hits} == {found}
                assert {hit.metadata["kind"] for hit in hits} == {kind}, (asker, found)


def test_the_newest_come_first_whatever_was_removed(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "lib", FakeModel())
    assert made.newest() == []
    for start in (0, 10):
        made.add(text(n) for n in range(start, start + 10))
        made.add([image(start, 0)])
    assert [hit.modality for hit in made.newest(3)] == ["image", "text", "text"]
    found = [hit.item for hit in made.newest(30, among="text")]
    assert found == [text(n) for n in reversed(range(20))]
    made.remove(made.newest(1)[0].id)
    assert [hit.item for hit in made.newest(2)] == [text(19), text(18)]
    with pytest.raises(UnknownName):
        made.newest(among="smell")


@pytest.mark.parametrize("asker", list(MAKERS))
def test_the_gap_between_modalities_buries_none(library: Library, asker: str) -> None:
    for kind in KINDS:
        hits = library.search(MAKERS[asker](kind, 9), top=40)
        assert sum(hit.metadata["kind"] == kind for hit in hits) >= 38
        counts = {modality: sum(hit.modality == modality for hit in hits) for modality in MAKERS}
        assert min(counts.values()) >= 6, counts
    raw = sorted(library.search(MAKERS[asker](10, 9), top=len(library)), key=lambda hit: -hit.cosine)[:40]
    assert len({hit.modality for hit in raw}) < 3  # cosines alone do bury them


def test_within_a_modality_the_order_is_that_of_cosines(library: Library) -> None:
    hits = library.search(text(10), top=len(library))
    assert len(hits) == len(library) == 240
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for modality in MAKERS:
        cosines = [hit.cosine for hit in hits if hit.modality == modality]
        assert cosines == sorted(cosines, reverse=True)


def test_queries_of_all_kinds(library: Library) -> None:
    model = FakeModel(gap=1.5)
    vector = model.embed([text(20)])[0]
    hits = library.search(text(20), among="text")
    for query in (vector, vector.numpy() * 3, vector.tolist(), vector.double()):
        assert [hit.id for hit in library.search(query, among="text")] == [hit.id for hit in hits]
    like = library.search(hits[0], among="text")
    assert (like[0].id, like[0].cosine) == (hits[0].id, 1.0)
    assert [hit.score for hit in library.search(text(20))] == [hit.score for hit in library.search(text(20))]


def test_among(library: Library) -> None:
    assert {hit.modality for hit in library.search(text(10), among=["image", "audio"], top=60)} == {"image", "audio"}
    with pytest.raises(UnknownName, match="no modality named 'smell'"):
        library.search(text(10), among="smell")


def test_where(library: Library) -> None:
    found = library.search(text(10), where=field("kind") >= 40, top=240)
    assert (len(found), {hit.metadata["kind"] for hit in found}) == (120, {40, 50, 60})
    assert len(library.search(text(10), where={"place": "Oslo"}, top=240)) == 120
    assert len(library.search(text(10), where=~(field("place") == "Oslo"), top=240)) == 120
    assert len(library.search(text(10), among="text", where=column("modality") == "image")) == 0
    with pytest.raises(UnknownName, match="use one of: kind, place"):
        library.search(text(10), where=field("plcae") == "Oslo")


def test_approximate_finds_the_same(library: Library) -> None:
    for query in (text(10), image(30)):
        exact = [hit.id for hit in library.search(query, among="image", top=5)]
        assert [hit.id for hit in library.search(query, among="image", top=5, approximate=True)] == exact


def test_beyond_its_memory_a_library_takes_the_index(small: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Library.open(small.path, FakeModel(), memory_bytes=100)
    expected = [hit.id for hit in small.search(text(3))]
    monkeypatch.setattr("intermodal.library.view.ExactView.search", lambda *_: pytest.fail("it scanned"))
    assert [hit.id for hit in opened.search(text(3))] == expected


@pytest.mark.parametrize("query", ["words", b"bytes", [[1.0] * 32], ["a"], None, object()])
def test_what_is_no_query(library: Library, query: Any) -> None:
    with pytest.raises(InvalidValue, match="give an item, a hit or a vector"):
        library.search(query)


def test_queries_that_do_not_fit(library: Library) -> None:
    with pytest.raises(StoreError, match="the query has 3 numbers and this library's vectors 32"):
        library.search([1.0, 2.0, 3.0])
    with pytest.raises(InvalidValue, match="no direction"):
        library.search(np.zeros(32))
    with pytest.raises(InvalidValue, match="top is 0"):
        library.search(text(1), top=0)


def test_an_empty_library(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "a", FakeModel())
    assert (len(made), made.search(text(1)), made.remove("x")) == (0, [], 0)
    assert made.stats().dimension == 0
    made.compact()
    made.index()
    assert made.repair().items == 0
    with pytest.raises(InvalidValue, match="no item 'x'"):
        made.get("x")
    assert made.add([]).added == 0
    assert len(made.search(text(1), where=None)) == 0


def test_get_vector_remove(small: Library) -> None:
    found = small.search(text(7), top=1)[0]
    again = small.get(found.id)
    assert (again.item, math.isnan(again.score), again.source) == (text(7), True, "")
    np.testing.assert_allclose(small.vector(found.id), FakeModel().embed([text(7)])[0], atol=1e-6)
    assert small.remove([found.id, "nothing"]) == 1
    assert len(small) == 29
    assert small.search(text(7), top=1)[0].id != found.id
    with pytest.raises(InvalidValue, match="has no item"):
        small.get(found.id)
    assert small.add(text(7)).added == 1
    assert small.search(text(7), top=1)[0].id == found.id


def test_remove_where(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "a", FakeModel(), Windows(window_s=2.0, overlap_s=0.5))
    path = audio(3, 5.0).save(tmp_path / "a.wav")
    made.add(path, text(1))
    assert len(made) == 4
    assert made.remove(where=column("source") == str(path)) == 3
    assert (len(made), path.exists()) == (1, True)
    for wrong in ({}, {"ids": "x", "where": column("id") == "x"}):
        with pytest.raises(InvalidValue, match="either ids or where"):
            made.remove(**wrong)


def test_a_hit_names_its_seconds(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "a", FakeModel(own=0.1), Windows(window_s=2.0, overlap_s=0.0))
    samples = np.concatenate([np.full((1, 16000), kind / 250, np.float32) for kind in KINDS], axis=1)
    path = type(audio(1))(samples, 8000).save(tmp_path / "kinds.wav")
    made.add(path)
    hit = made.search(text(30), top=1)[0]
    assert (hit.source, hit.start_s, hit.stop_s) == (str(path), 4.0, 6.0)
    assert kind_of(hit.item) == 30


def test_stats(library: Library) -> None:
    stats = library.stats()
    assert (stats.items, stats.dimension, stats.model, stats.indexed) == (240, 32, "fake", False)
    assert stats.modalities == dict.fromkeys(sorted(MAKERS), 48)
    assert stats.metadata == {"kind": "num", "place": "str"}
    assert stats.bytes > 10_000


def test_opened_again_it_answers_the_same(library: Library) -> None:
    opened = Library.open(library.path, FakeModel(gap=1.5))
    for query in (text(10), image(30)):
        assert opened.search(query) == library.search(query)


def test_others_additions_are_seen_at_once(small: Library) -> None:
    other = Library.open(small.path, FakeModel())
    assert len(other.search(text(40), top=100)) == 30
    small.add(text(40))
    assert other.search(text(40), top=1)[0].cosine > 0.99
    other.remove(other.search(text(40), top=1)[0].id)
    assert len(small.search(text(40), top=100)) == 30


def test_many_small_additions_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intermodal.library.library.PARTS_MAX", 4)
    made = Library.create(tmp_path / "a", FakeModel())
    for number in range(7):
        made.add(text(number))
        assert made.search(text(number), top=1)[0].cosine > 0.99
    assert made.stats().parts == 3
    assert len({hit.id for hit in made.search(text(3), top=100)}) == 7


def test_a_damaged_derived_file_is_made_again(small: Library) -> None:
    expected = small.search(text(3))
    path = next(small.path.glob("derived/*/vectors.f32"))
    values = np.fromfile(path, np.float32)
    values[:] = np.roll(values, 32)
    values.tofile(path)
    assert Library.open(small.path, FakeModel()).search(text(3)) == expected


def test_another_model_is_refused(small: Library) -> None:
    with pytest.raises(StoreError, match="was made by the model 'fake', not by 'other'; use that"):
        Library.open(small.path, FakeModel(name="other"))
    opened = Library.open(small.path)
    assert (opened.model, opened.model_name) == (None, "fake")
    with pytest.raises(StoreError, match="was made by the model"):
        opened.model = FakeModel(name="other")
    opened.model = FakeModel()
    assert opened.search(text(3))[0].cosine > 0.99
    unnamed = Library.open(small.path, SimpleNamespace(embed=FakeModel(width=16).embed))
    with pytest.raises(StoreError, match="16 numbers and this library's vectors 32"):
        unnamed.search(text(3))


def test_without_a_model(small: Library) -> None:
    opened = Library.open(small.path)
    assert len(opened.search(small.vector(small.search(text(3))[0].id))) == 10
    with pytest.raises(StoreError, match="without a model"):
        opened.search(text(3))
    with pytest.raises(StoreError, match="without a model"):
        opened.add(text(3))


def test_create_and_replace(small: Library) -> None:
    with pytest.raises(StoreError, match="use Library.open"):
        Library.create(small.path, FakeModel())
    made = Library.create(small.path, FakeModel(name="other"), Windows(5.0), replace=True)
    assert (len(made), made.windows.window_s, made.model_name) == (0, 5.0, "other")
    made.add(text(1))
    assert len(made.search(text(1))) == 1


def test_open_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no library"):
        Library.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="there is no library"):
        Library.repair_folder(tmp_path)


def test_repair(small: Library) -> None:
    small.search(text(1))
    small.add(text(n) for n in range(30, 40))
    newest = max((small.path / "items.lance" / "_versions").glob("*.manifest"), key=lambda p: p.stat().st_mtime_ns)
    os.truncate(newest, 0)
    with pytest.raises(StoreError, match="does not open.*Library.repair_folder"):
        Library.open(small.path, FakeModel())
    assert Library.repair_folder(small.path).items == 30
    opened = Library.open(small.path, FakeModel())
    assert len(opened.search(text(1), top=100)) == 30
    assert opened.add(text(n) for n in range(40)).added == 10
    assert opened.repair().moved == ()


def test_a_mistake_is_refused_before_anything_is_added(small: Library, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="there is no file"):
        small.add(text(99), tmp_path / "typo")
    assert len(small) == 30


def test_the_library_itself_is_not_added(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "lib", FakeModel())
    (tmp_path / "a.txt").write_text("kind 3")
    first, again = made.add(tmp_path), made.add(tmp_path)
    assert (first.added, first.failed, again.added, again.skipped) == (1, (), 0, 1)


def test_metadata_of_a_folder(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "lib", FakeModel())
    (tmp_path / "media").mkdir()
    lines = []
    for kind in KINDS:
        image(kind).save(tmp_path / "media" / f"{kind}.png")
        lines.append(json.dumps({"file_name": f"{kind}.png", "kind": kind, "tags": ["a", "b"]}))
    (tmp_path / "media" / "metadata.jsonl").write_text("\n".join(lines))
    assert made.add(tmp_path / "media", metadata={"set": "test"}).failed == ()
    hit = made.search(text(30), where=field("kind") >= 30, top=1)[0]
    assert hit.metadata == {"kind": 30, "tags": ["a", "b"], "set": "test"}


def test_importing_is_light() -> None:
    heavy = "{'lance', 'lancedb', 'av', 'PIL'}"
    code = f"import sys; from intermodal.library.library import Library; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_while_it_adds() -> None:
    command = [sys.executable, "benchmarks/library_kill.py", "--rounds", "3", "--files", "400", "--json"]
    done = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert done["killed"] == 3
    assert (done["lost"], done["doubled"], done["not_opened"]) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_malformed_files() -> None:
    command = [sys.executable, "benchmarks/library_malformed.py", "--files", "100", "--json"]
    done = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert done["added"] + done["reported"] + done["skipped"] == done["files"] == 100
    assert done["peak_mib"] < 1024
