from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.library import windows as module
from intermodal.library.windows import Piece, Windows, cut, decode, encode, load, numbered, plans
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.video import Video
from tests.library.fake import MAKERS, audio, video

WINDOWS = Windows(window_s=2.0, overlap_s=0.5, characters=40)


def ramp(seconds: float, rate: int = 8000) -> Audio:
    """Returns sound that tells its own time: the sample at t seconds is t / 100."""
    return Audio((np.arange(round(seconds * rate), dtype=np.float32) / rate / 100)[None], rate)


def clock(seconds: float) -> Video:
    """Returns moving pictures that tell their own time: frame n is 4 n bright."""
    count = round(seconds * 4)
    return Video(
        np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] * 4, (count, 16, 16, 3)).copy(), 4.0
    )


def pieces_of(data: bytes, modality: str, windows: Windows = WINDOWS) -> list[Piece]:
    return [
        p for plan in plans(data, "a file", modality, windows) for p in decode(data, "a file", modality, plan, windows)
    ]


@given(st.floats(0.01, 500), st.floats(0.5, 20), st.floats(0, 0.5))
def test_spans_cover_everything(seconds: float, window: float, share: float) -> None:
    windows = Windows(window, window * share)
    spans = windows.spans(seconds)
    assert spans[0][0] == 0.0
    assert spans[-1][1] == pytest.approx(seconds)
    assert all(stop - start == pytest.approx(min(window, seconds)) for start, stop in spans)
    for (start, stop), (following, _) in pairwise(spans):
        assert start < following <= stop - windows.overlap_s + 1e-5


def test_spans_of_known_length() -> None:
    assert Windows(10, 0).spans(10) == ((0.0, 10),)
    assert Windows(10, 0).spans(20) == ((0.0, 10.0), (10.0, 20.0))
    assert Windows(10, 2).spans(25) == ((0.0, 10.0), (8.0, 18.0), (15.0, 25.0))


@given(st.text(alphabet="ab .!?\n\t", max_size=400), st.integers(1, 60))
def test_paragraphs_hold_everything_once(text: str, characters: int) -> None:
    places = Windows(characters=characters).paragraphs(text)
    assert all(
        0 < stop - start <= characters and text[start:stop] == text[start:stop].strip() for start, stop in places
    )
    assert all(stop <= start for (_, stop), (start, _) in pairwise(places))
    assert "".join("".join(text[a:b] for a, b in places).split()) == "".join(text.split())


def test_where_paragraphs_are_cut() -> None:
    text = "One two three.\n\nFour five six. Seven eight nine ten. Eleven twelve"
    places = Windows(characters=40).paragraphs(text)
    assert [text[a:b] for a, b in places] == ["One two three.", "Four five six. Seven eight nine ten.", "Eleven twelve"]


WRONG = ({"window_s": 0.0}, {"window_s": float("inf")}, {"overlap_s": 6.0}, {"overlap_s": -1.0}, {"characters": 0})


@pytest.mark.parametrize("wrong", WRONG)
def test_windows_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        Windows(**wrong)  # type: ignore[arg-type]


def test_what_is_short_stays_whole(tmp_path: Path) -> None:
    for modality, make in MAKERS.items():
        item = make(7)
        data = encode(item, tmp_path)
        (piece,) = pieces_of(data, modality)
        assert (piece.item, piece.number) == (item, None)
        assert cut(item, WINDOWS) == [piece] or cut(item, WINDOWS)[0].item == item
        assert (piece.start_s is None) == (modality not in ("audio", "video"))
        assert load(data, "a file", modality, {}) == item
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("together", [2.0, 4.0, 300.0])
def test_sound_is_cut_into_windows(tmp_path: Path, together: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOUND_S", together)
    item = ramp(7.25)
    data = encode(item, tmp_path)
    pieces = pieces_of(data, "audio")
    assert [(p.number, p.start_s, p.stop_s) for p in pieces] == [
        (0, 0.0, 2.0), (1, 1.5, 3.5), (2, 3.0, 5.0), (3, 4.5, 6.5), (4, 5.25, 7.25),
    ]  # fmt: skip
    for piece in pieces:
        assert piece.item == item.cut(piece.start_s, piece.stop_s)
        assert load(data, "a file", "audio", {"start_s": piece.start_s, "stop_s": piece.stop_s}) == piece.item
    assert [p.item for p in cut(item, WINDOWS)] == [p.item for p in pieces]


def test_video_is_cut_into_windows(tmp_path: Path) -> None:
    item = clock(5.0)
    data = encode(item, tmp_path)
    pieces = pieces_of(data, "video")
    assert [(p.number, p.start_s, p.stop_s) for p in pieces] == [(0, 0.0, 2.0), (1, 1.5, 3.5), (2, 3.0, 5.0)]
    for piece in pieces:
        first = round(piece.start_s * 4)
        assert (piece.item.frames[:, 0, 0, 0] // 4).tolist() == list(range(first, first + 8))
        assert load(data, "a file", "video", {"start_s": piece.start_s, "stop_s": piece.stop_s}) == piece.item


def test_large_video_is_read_with_fewer_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(clock(4.0), tmp_path)
    monkeypatch.setattr(module, "VIDEO_PIXELS", 16 * 16 * 4)
    pieces = pieces_of(data, "video")
    assert [len(piece.item.frames) for piece in pieces] == [4, 4, 4]
    assert all(piece.item.frames_per_s == pytest.approx(2.0) for piece in pieces)


def test_text_is_cut_into_paragraphs() -> None:
    item = Text("First sentence here.\n\n" + "word " * 30)
    pieces = cut(item, WINDOWS)
    assert len(pieces) > 3
    data = item.text.encode()
    for number, piece in enumerate(pieces):
        assert piece.number == number
        assert item.text[piece.metadata["start_char"] : piece.metadata["stop_char"]] == piece.item.text
        assert load(data, "a file", "text", piece.metadata) == piece.item


def test_a_text_of_blanks_is_refused() -> None:
    with pytest.raises(UnreadableMedia, match="note.txt holds nothing but white space"):
        cut(Text(" \n\t "), WINDOWS, "note.txt")


def test_messages_name_the_file() -> None:
    for modality in MAKERS:
        with pytest.raises(UnreadableMedia, match="photo.xyz"):
            decode(b"\x00nothing of the kind", "photo.xyz", modality, (), WINDOWS)


def test_sound_that_ends_before_its_header_says(tmp_path: Path) -> None:
    data = encode(ramp(7.0), tmp_path)
    plan = tuple(enumerate(WINDOWS.spans(9.0)))
    pieces = [p for one in plan[2:] for p in decode(data, "a file", "audio", (one,), WINDOWS) if p.number in (2, 3)]
    assert [p.number for p in pieces] == [2, 3]
    assert decode(data, "a file", "audio", ((5, (7.5, 9.0)),), WINDOWS) == []


def test_ids_of_windows() -> None:
    assert numbered("ab", None) == "ab"
    assert numbered("ab", 7) == "ab-00007"


def test_lengths(tmp_path: Path) -> None:
    assert len(plans(encode(audio(3, 0.5), tmp_path), "a", "audio", WINDOWS)) == 1
    assert len(plans(encode(video(3, 20), tmp_path), "a", "video", WINDOWS)) == 3


def test_a_large_jpg_is_decoded_smaller_where_that_suffices(tmp_path: Path) -> None:
    data = Image(np.zeros((480, 640, 3), np.uint8)).save(tmp_path / "a.jpg").read_bytes()
    for at_least, shape in ((None, (480, 640)), ((100, 100), (120, 160)), ((300, 100), (480, 640))):
        (piece,) = decode(data, "a.jpg", "image", (), WINDOWS, at_least)
        assert piece.item.pixels.shape[:2] == shape  # type: ignore[attr-defined]
