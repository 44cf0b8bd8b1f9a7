"""Published Whisper folders, made with random weights, against the library that wrote them."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.adapters.whisper import Said
from intermodal.cli.app import run
from intermodal.media.source import printable
from intermodal.modalities.audio import Audio
from intermodal.sampling.autoregressive import Sampling
from intermodal.tokenizers.bpe import byte_symbols
from intermodal.types import Translates
from tests import published

RATE, PLACES = 16_000, 20
SPECIALS = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>")
SPECIALS = (*SPECIALS, "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
SOUNDS = [published.wave(0.6, RATE), published.wave(0.9, RATE, 250.0), published.wave(0.3, RATE, 1500.0)]


def build(folder: Path, multilingual: bool = True) -> Any:
    """Writes a folder and returns the network in it."""
    library = published.library()
    ids = {symbol: i for i, symbol in enumerate(sorted(byte_symbols()))}
    tokenizer = library.WhisperTokenizer(vocab={**ids, "<|endoftext|>": 256}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIALS[1:])})
    times = [library.AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False, special=False) for i in range(51)]
    tokenizer.add_tokens(times)
    of = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIALS}
    sizes: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "num_mel_bins": 12}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    sizes |= {"max_source_positions": 50, "max_target_positions": PLACES, "vocab_size": len(tokenizer)}
    marks = {"eos_token_id": 256, "bos_token_id": 256, "pad_token_id": 256, "decoder_start_token_id": of[SPECIALS[1]]}
    torch.manual_seed(0)
    network = library.WhisperForConditionalGeneration(library.WhisperConfig(**sizes, **marks, suppress_tokens=[]))
    published.shaken(network, 0.4)
    more: dict[str, Any] = {"no_timestamps_token_id": of["<|notimestamps|>"], "is_multilingual": multilingual}
    if multilingual:
        more["lang_to_id"] = {name: of[name] for name in ("<|en|>", "<|de|>")}
        more["task_to_id"] = {name: of[f"<|{name}|>"] for name in ("translate", "transcribe")}
    never = sorted(set(of.values()) - {256})
    suppress = {"suppress_tokens": never, "begin_suppress_tokens": [256]}
    network.generation_config = library.GenerationConfig(**marks, **more, **suppress, max_length=PLACES)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    library.WhisperFeatureExtractor(feature_size=12, chunk_length=1).save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "whisper"
    return folder, build(folder)


def theirs(folder: Path, network: Any, sounds: list[np.ndarray], **how: Any) -> list[str]:
    """Returns what the library itself writes about sounds that fit into a window."""
    library = published.library()
    heard = library.WhisperFeatureExtractor.from_pretrained(folder)(sounds, sampling_rate=RATE, return_tensors="pt")
    rows = network.generate(heard["input_features"], **how)
    tokenizer = library.WhisperTokenizer.from_pretrained(folder)
    return [printable(text).strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


def words(model: Any, sounds: list[np.ndarray], **how: Any) -> list[str]:
    return [item.text for item in model.translate([Audio(s, RATE) for s in sounds], "text", **how)]


@pytest.mark.peer
def test_words_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    ours = im.load(folder)
    assert isinstance(ours, Translates)
    expected = theirs(folder, network, SOUNDS, task="transcribe")
    assert len(set(expected)) > 1
    assert words(ours, SOUNDS) == expected
    assert [words(ours, [sound])[0] for sound in SOUNDS] == expected  # alone as among others
    assert words(ours, SOUNDS, count=3) == theirs(folder, network, SOUNDS, task="transcribe", num_beams=3)
    ours.language, ours.task = "de", "translate"
    assert words(ours, SOUNDS) == theirs(folder, network, SOUNDS, language="de", task="translate")


@pytest.mark.peer
def test_what_is_drawn_depends_on_the_seed_alone(made: tuple[Path, Any]) -> None:
    ours = im.load(made[0])
    drawn = words(ours, SOUNDS, sampling=Sampling(1.0, seed=3))
    assert drawn == [words(ours, [sound], sampling=Sampling(1.0, seed=3))[0] for sound in SOUNDS]
    assert drawn != words(ours, SOUNDS, sampling=Sampling(1.0, seed=4))
    assert words(ours, SOUNDS, sampling=Sampling()) == words(ours, SOUNDS)


@pytest.mark.peer
def test_a_long_sound_is_read_in_windows_cut_where_it_is_quiet(made: tuple[Path, Any]) -> None:
    folder, network = made
    ours = im.load(folder)
    quiet = np.zeros(800, np.float32)
    whole = np.concatenate([SOUNDS[1], quiet, SOUNDS[0], quiet])
    first = len(SOUNDS[1]) + 480  # the middle of its first quiet frame
    expected = theirs(folder, network, [whole[:first], whole[first:]], task="transcribe")
    assert words(ours, [whole]) == [" ".join(expected)]
    assert words(ours, [whole, SOUNDS[2]])[1] == words(ours, [SOUNDS[2]])[0]


@pytest.mark.peer
def test_phrases_have_their_times(made: tuple[Path, Any]) -> None:
    ours = im.load(made[0])
    whole = Audio(np.concatenate(SOUNDS), RATE)
    found = ours.segments(whole)
    assert found
    assert all(isinstance(one, Said) for one in found)
    times = [time for one in found for time in (one.start_s, one.stop_s)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= whole.seconds


@pytest.mark.peer
def test_the_server_writes_subtitles_phrase_by_phrase(made: tuple[Path, Any], tmp_path: Path) -> None:
    pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")
    ours = im.load(made[0])
    sound = Audio(np.concatenate(SOUNDS), RATE)
    data = sound.save(tmp_path / "speech.wav").read_bytes()
    expected = [
        (start + one.start_s, one.words)
        for start, part in ((0.0, sound.cut(0, 1)), (1.0, sound.cut(1, 2)))
        for one in ours.segments(part)
    ]

    async def ask() -> Any:
        async with places.client(places.server({"whisper": ours})) as asked:
            heard = asked.audio.transcriptions
            file = ("speech.wav", data)
            full = await heard.create(model="whisper-1", file=file, response_format="verbose_json")
            return full, await heard.create(model="whisper", file=file, response_format="srt")

    full, subtitles = asyncio.run(ask())
    assert [(pytest.approx(one.start), one.text) for one in full.segments] == expected
    assert subtitles.count(" --> ") == len(expected) >= 2


@pytest.mark.peer
def test_languages_and_tasks_that_are_unknown_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    ours = im.load(made[0])
    ours.language = "xx"
    with pytest.raises(im.InvalidValue, match="language 'xx' is not known to this model; use one of: de, en"):
        words(ours, SOUNDS)
    ours.language, ours.task = None, "sing"
    with pytest.raises(im.InvalidValue, match="task is 'sing'; use transcribe or translate"):
        words(ours, SOUNDS)
    build(tmp_path, multilingual=False)
    single = im.load(tmp_path)
    assert words(single, SOUNDS)
    single.language = "en"
    with pytest.raises(im.InvalidValue, match="of a model of one language"):
        words(single, SOUNDS)
    with pytest.raises(im.Unsupported, match="does not translate anything to image; it translates audio to text"):
        single.translate([Audio(SOUNDS[0], RATE)], "image")


@pytest.mark.peer
def test_weights_and_settings_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    wrong = published.rewritten(folder, tmp_path / "mels", "preprocessor_config.json", feature_size=20)
    assert "makes 20 x 100 mels and frames, and the network reads 12 x 100" in published.refused(wrong)


@pytest.mark.peer
def test_the_command_translates_a_file(
    made: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = Audio(SOUNDS[0], RATE).save(tmp_path / "speech.wav")
    assert run(["translate", str(sound), "--to", "text", "--model", str(made[0])]) == 0
    assert words(im.load(made[0]), [Audio.open(sound).samples[0]])[0][:5] in capsys.readouterr().out
