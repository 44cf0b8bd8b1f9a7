"""The scripts that translate real data: what they prepare, what judges what was made, and stages that are kept."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from intermodal.data.folder import Folder
from intermodal.modalities.audio import Audio, AudioPreprocessor
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text
from intermodal.types import Candidate

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "real"


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module(request.param)


def named(name: str) -> pytest.MarkDecorator:
    """Returns the mark that imports a script."""
    return pytest.mark.parametrize("script", [name], indirect=True)


@named("_stages")
def test_a_stage_is_done_once_for_the_same_request(script: ModuleType, tmp_path: Path) -> None:
    done: list[int] = []

    def make() -> dict[str, int]:
        done.append(1)
        return {"count": len(done)}

    path = tmp_path / "stage" / "figures.json"
    assert script.kept(path, {"samples": (1, 2)}, make) == {"count": 1}
    assert script.kept(path, {"samples": (1, 2)}, make) == {"count": 1}
    assert script.kept(path, {"samples": (1, 3)}, make) == {"count": 2}
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]


@named("_stages")
def test_a_training_is_done_once_goes_on_and_is_never_mixed_up(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    fails = [True, False]

    def run(commands: dict[str, list[str]], data: Path, out: Path) -> dict[str, dict[str, float]]:
        calls.append([word.format(data=data, out=out) for word in commands["train"]])
        if fails.pop(0):
            raise SystemExit(1)
        return {"train": {"loss": 1.0}}

    monkeypatch.setattr(script._steps, "run", run)
    out = tmp_path / "model"
    with pytest.raises(SystemExit):
        script.trained(out, ["train", "codec"])
    for _ in range(2):
        assert script.trained(out, ["train", "codec"]) == out / "model"
    assert calls == [["train", "codec", "--out", str(out), "--resume"]] * 2
    with pytest.raises(SystemExit, match="with other arguments"):
        script.trained(out, ["train", "clip"])


@named("_stages")
def test_a_recording_spoken_otherwise_has_another_length_pitch_and_level(script: ModuleType) -> None:
    tone = np.sin(np.arange(8000) / 8000 * 2 * np.pi * 500).astype(np.float32)[None] * 0.5
    made = [script.spoken_otherwise(tone, 8000, np.random.default_rng(i), 0.1) for i in range(6)]
    assert len({m.shape[1] for m in made}) == 6
    for one in made:
        assert one.dtype == np.float32
        assert 8000 / 1.11 < one.shape[1] < 8000 / 0.89 + 400
        pitch = np.abs(np.fft.rfft(one[0])).argmax() * 8000 / one.shape[1]
        assert 440 < pitch < 560
        assert abs(pitch - 500) > 1


@named("_judges")
def test_a_listener_learns_what_is_said_in_each_place_and_padding_says_nothing(script: ModuleType) -> None:
    torch.manual_seed(0)
    prepares = AudioPreprocessor(sample_rate_hz=8000, mels=16, window=256, hop=80, patch_frames=1)
    seconds = np.arange(1200) / 8000
    labels = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(8, 1)
    items = []
    for i, (first, second) in enumerate(labels.tolist()):
        parts = [np.sin(2 * np.pi * (500 + 900 * which) * seconds) for which in (first, second)]
        items.append(Audio(np.concatenate(parts)[None, : 2300 + i].astype(np.float32) * 0.3, 8000))
    judge = script.Listener((2, 2), 16, 24)
    script.taught(judge, *script.rows(prepares, items), labels, 40)
    found = script.judged(judge, prepares, items)
    assert float((found == labels).double().mean()) > 0.9
    values, mask = script.rows(prepares, items[:2])
    longer = torch.nn.functional.pad(values, (0, 40), value=3.0), torch.nn.functional.pad(mask, (0, 40))
    for short, long in zip(judge(values, mask), judge(*longer), strict=True):
        torch.testing.assert_close(short, long, atol=1e-4, rtol=1e-4)


@named("_judges")
def test_a_judge_is_taught_once(script: ModuleType, tmp_path: Path) -> None:
    prepares = ImagePreprocessor(height=32, width=32, patch=8)
    items = [Image(np.full((28, 28, 3), 255 * (i % 2), np.uint8)) for i in range(64)]
    labels = torch.tensor([[i % 2] for i in range(64)])
    path = tmp_path / "judge.safetensors"
    first = script.kept_judge(path, script.Looker((2,)), lambda: (items, labels), prepares, 12)
    again = script.kept_judge(path, script.Looker((2,)), lambda: pytest.fail("it is there"), prepares, 12)
    assert torch.equal(script.judged(first, prepares, items), labels)
    assert torch.equal(script.judged(again, prepares, items), labels)


@pytest.mark.slow
@pytest.mark.data("mnist", "fsdd")
@named("digits_translate")
def test_pictures_and_recordings_of_one_digit_are_paired(
    script: ModuleType, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "DEV", 20)
    folder = script.prepare(shared_data, tmp_path, limit=30, variants=0)
    sizes = {split: len(Folder(folder, split)) for split in ("train", "dev", "test")}
    assert sizes == {"train": 30 * script.PAIRINGS, "dev": 20, "test": 30}
    takes: dict[str, set[int]] = {}
    for split in sizes:
        source = Folder(folder, split)
        for i in range(len(source)):
            about = source.metadata(i)
            digit, _, take = Path(about["about"]["recording"]).stem.split("_")
            assert int(digit) == about["digit"]
            takes.setdefault(split, set()).add(int(take))
    assert max(takes["test"]) < 5 <= min(takes["dev"]) <= max(takes["dev"]) < 10 <= min(takes["train"])
    items, labels = script.asked_of(folder, "audio", 1000)
    assert len(items) == len({item.content_hash() for item in items}) == len(labels)


class Echo:
    """Writes the word of a digit that it is given or begins with, or a sound or picture that stands for it."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], int, int]] = []

    def candidates(self, samples: list[dict], to: str, *, sampling: object, count: int) -> list[list[Candidate]]:
        self.asked += [(tuple(sample), sampling.seed, count) for sample in samples]  # type: ignore[attr-defined]
        words = ("zero", "one", "two", "three")
        texts = [next((item.text for item in sample.values()), "") for sample in samples]
        return [[Candidate(Text(text or words[i % 4]), 0.0) for i in range(count)] for text in texts]


@named("digits_translate")
def test_joint_samples_begin_with_nothing_and_agree_where_all_three_do(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "named", lambda field, items, by: np.array([len(item.text) for item in items]))
    model = Echo()
    found = script.joint(model, {}, 24, 1.0)
    assert {first: each["joint_coherence"] for first, each in found.items()} == dict.fromkeys(script.FIELDS, 1.0)
    empty = [row for row in model.asked if not row[0]]
    assert [count for _, _, count in empty] == [10, 10, 4] * 3
    assert len({seed for _, seed, _ in empty}) == 3  # or every ten of them would be the same
    assert {row[0] for row in model.asked} >= {("text",), ("text", "image"), ("audio", "image")}
    monkeypatch.setattr(script, "named", lambda field, items, by: np.array([int(field == "audio") for _ in items]))
    assert script.joint(Echo(), {}, 8, 1.0)["text"]["joint_coherence"] == 0.0


@named("digits_translate")
def test_figures_say_what_was_asked(script: ModuleType) -> None:
    found = {
        "across": {"text>image": {"coherence": 0.96}, "image>text": {"coherence": 0.5}},
        "joint": {"text": {"joint_coherence": 0.9}},
        "judges": {"audio, real": 0.97},
    }
    assert script.figures(found) == {
        "digits.translate.text_to_image": (96.0, "≥ 95"),
        "digits.translate.image_to_text": (50.0, "-"),
        "digits.translate.joint_from_text": (90.0, "≥ 85; MMVAE 42"),
        "digits.translate.judge_right.audio_real": (97.0, "-"),
    }
    assert script.named("text", [Text("seven"), Text("sevn")], {}).tolist() == [7, -1]


@pytest.mark.data("grid_lips")
@named("grid_lips_translate")
def test_sentences_are_of_the_grammar_and_only_training_is_varied(
    script: ModuleType, shared_data: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (shared_data / "grid_lips" / "pairs.jsonl").read_text().splitlines()]
    assert sum(map(len, script.GRAMMAR)) == 51
    assert all(len(script.places(row["text"])) == 6 for row in rows)
    folder = script.prepare(shared_data, tmp_path, limit=2)
    recordings, sentences = script.spoken(folder, "train")
    assert len(recordings) == len(set(sentences)) == 2
    more = script.enlarged(folder, (Hears(script), AudioPreprocessor(mels=32, patch_frames=1)), 2, 0)
    assert {split: len(Folder(more, split)) for split in ("train", "dev", "test")} == {
        "train": 6, "dev": 2, "test": 2,
    }  # fmt: skip
    assert set(script.spoken(more, "train")[1]) == set(sentences)
    with pytest.raises(ValueError, match="has 2 words"):
        script.places("bin blue")


class Hears:
    """Says that words lie evenly."""

    def __init__(self, script: ModuleType) -> None:
        self.rows = script._judges.rows

    def centres(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (torch.arange(6) + 0.5)[None] / 6


def tones(numbers: list[int]) -> Audio:
    """Returns a tone for each number, 300 ms and a gap of 100 ms."""
    seconds = np.arange(4800) / 16_000
    parts = [np.pad(np.sin(2 * np.pi * 400 * (1 + n) * seconds), (800, 800)) for n in numbers]
    return Audio(np.concatenate(parts)[None].astype(np.float32) * 0.5, 16_000)


@named("grid_lips_translate")
def test_recordings_are_spliced_between_words_and_kept_where_they_are_heard(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(judge: object, prepares: object, items: list[Audio]) -> torch.Tensor:
        whole = [np.pad(item.samples[0], (0, 6 * 6400))[: 6 * 6400].reshape(6, 6400) for item in items]
        pitches = [np.abs(np.fft.rfft(parts)).argmax(axis=1) * 2.5 for parts in whole]
        return torch.tensor(np.stack(pitches) / 400 - 1).round().long()

    monkeypatch.setattr(script._judges, "judged", judged)
    by = (Hears(script), AudioPreprocessor(mels=32, patch_frames=1))
    numbers = [[0, 0, 0, 5, 6, 0], [3, 3, 3, 1, 2, 3]]
    recordings = [tones(row) for row in numbers]
    sentences = [" ".join(words[n] for words, n in zip(script.GRAMMAR, row, strict=True)) for row in numbers]
    ends = np.array(script.cuts(recordings[0], by))
    assert np.abs(ends - 6400 * np.arange(1, 6)).max() <= 1000
    found = list(script.splices(recordings, sentences, by, 12, np.random.default_rng(0)))
    assert len(found) == 12
    assert len({text for _, text in found} - set(sentences)) > 3
    assert all(script.places(text) == judged(None, None, [Audio(s, 16_000)])[0].tolist() for s, text in found)
    monkeypatch.setattr(script._judges, "judged", lambda judge, prepares, items: torch.full((len(items), 6), -1))
    assert list(script.splices(recordings, sentences, by, 12, np.random.default_rng(0))) == []


@named("grid_lips_translate")
def test_words_are_heard_place_by_place(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = ["bin blue at f two now", "set red with z nine again"]
    found = torch.tensor([script.places("bin blue at f two now"), script.places("set red with z nine soon")])
    monkeypatch.setattr(script._judges, "judged", lambda judge, prepares, items: found)
    figures = script.heard([], sentences, (None, None))
    assert figures["words"] == pytest.approx(11 / 12)
    assert (figures["adverb"], figures["letter"], figures["count"]) == (0.5, 1.0, 12.0)


@named("flickr8k_captions")
def test_the_caption_that_agrees_most_is_taken(script: ModuleType) -> None:
    texts = ["a man rides", "a dog runs on the grass", "a dog runs in the grass", "a brown dog runs on the grass", ""]
    assert script.consensus(texts) == 1
    assert script.consensus(["alone"]) == 0


@named("flickr8k_captions")
def test_components_keep_what_varies_most(script: ModuleType) -> None:
    draws = np.random.default_rng(0)
    regions = (draws.normal(size=(500, 6)) * np.array([5, 0.1, 3, 0.1, 0.1, 0.1]) + 7).astype(np.float32)
    mean, matrix, share = script.components(regions, 2)
    made = (regions - mean) @ matrix
    assert share > 0.99
    assert made.shape == (500, 2)
    assert float(made.var(axis=0).mean()) == pytest.approx(1.0, abs=0.01)
    assert np.abs(matrix[[1, 3, 4, 5]]).max() < 0.02


@pytest.mark.parametrize("script", ["digits_translate", "grid_lips_translate", "flickr8k_captions"], indirect=True)
def test_an_absent_set_is_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="needs the folder .*, which is absent"):
        script.prepare(tmp_path, tmp_path / "work")
