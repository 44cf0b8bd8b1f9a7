"""Published SpeechT5 folders, made with random weights, against the library that wrote them."""

import asyncio
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.sampling.autoregressive import Sampling
from tests import published

WIDTH, MELS = 6, 8
VOICE = np.linspace(-1, 1, WIDTH, dtype=np.float32)


def build(folder: Path) -> Any:
    """Writes a folder with its vocoder and a voice, and returns the network in it."""
    library = published.library()
    pieces = pytest.importorskip("sentencepiece")
    folder.mkdir(exist_ok=True)
    model = io.BytesIO()
    pieces.SentencePieceTrainer.train(
        sentence_iterator=iter(["the red cat is a horse on blue grass.", "a dog jumps!"]), model_writer=model,
        model_type="char", vocab_size=24, bos_id=0, pad_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    (folder / "spm_char.model").write_bytes(model.getvalue())
    tokenizer = library.SpeechT5Tokenizer(str(folder / "spm_char.model"))
    sizes: dict[str, Any] = {"hidden_size": 16, "encoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"encoder_ffn_dim": 24, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24}
    sizes |= {"num_mel_bins": MELS, "speech_decoder_prenet_units": 12, "speaker_embedding_dim": WIDTH}
    sizes |= {"speech_decoder_postnet_layers": 2, "speech_decoder_postnet_units": 12, "max_text_positions": 40}
    config = library.SpeechT5Config(vocab_size=len(tokenizer), **sizes)
    torch.manual_seed(0)
    network = published.shaken(library.SpeechT5ForTextToSpeech(config))
    network.speech_decoder_postnet.prob_out.bias.data.fill_(-1.1)  # else it stops at once
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sizes = {"model_in_dim": MELS, "upsample_initial_channel": 8, "upsample_rates": [4, 4]}
    sizes |= {"upsample_kernel_sizes": [8, 8], "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]]}
    vocoder = published.shaken(library.SpeechT5HifiGan(library.SpeechT5HifiGanConfig(**sizes)))
    vocoder.save_pretrained(folder / "vocoder")
    np.save(folder / "speaker.npy", VOICE)
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "speecht5"
    build(folder)
    return folder


def theirs(folder: Path, text: str, voice: np.ndarray = VOICE, seed: int = 0) -> np.ndarray:
    """Returns what the library itself makes of a sentence, loaded from the folder."""
    library = published.library()
    network = library.SpeechT5ForTextToSpeech.from_pretrained(folder).eval()
    vocoder = library.SpeechT5HifiGan.from_pretrained(folder / "vocoder").eval()
    ids = library.SpeechT5Tokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    torch.manual_seed(seed)
    made: np.ndarray = network.generate_speech(ids, torch.tensor(voice)[None], vocoder=vocoder).numpy()
    return made.clip(-1, 1)


@pytest.mark.peer
def test_the_waveform_is_that_of_transformers(made: Path) -> None:
    ours = im.load(made)
    for seed, sampling in ((0, None), (3, Sampling(seed=3))):
        (sound,) = ours.translate([im.Text("the red cat")], "speech", sampling=sampling)
        assert isinstance(sound, im.Audio)
        assert sound.sample_rate_hz == 16_000
        np.testing.assert_allclose(sound.samples[0], theirs(made, "the red cat", seed=seed), atol=1e-5)
    assert float(np.abs(sound.samples).max()) > 0.001
    (whole,) = ours.translate([im.Text("a dog. 11? The cat!")], "audio")
    parts = [theirs(made, "a dog."), np.zeros(3200), theirs(made, "The cat!")]
    np.testing.assert_allclose(whole.samples[0], np.concatenate(parts), atol=1e-5)
    ours.speaker = (-VOICE).tolist()
    (other,) = ours.translate([im.Text("the red cat")], "speech")
    np.testing.assert_allclose(other.samples[0], theirs(made, "the red cat", -VOICE), atol=1e-5)


@pytest.mark.peer
def test_voices_and_texts_that_cannot_be_spoken_are_told(made: Path) -> None:
    ours = im.load(made)
    for text in ("", "123"):
        with pytest.raises(im.InvalidValue, match="has no letter that this voice speaks"):
            ours.translate([im.Text(text)], "speech")
    with pytest.raises(im.InvalidValue, match="this model reads 40; put full stops"):
        ours.translate([im.Text("a cat " * 20)], "speech")
    for voice, told in (([1.0, 2.0], "speaker has 2 numbers"), (VOICE * np.nan, "takes 6 finite ones")):
        ours.speaker = voice
        with pytest.raises(im.InvalidValue, match=told):
            ours.translate([im.Text("a cat")], "speech")
    ours.speaker = None
    with pytest.raises(im.InvalidValue, match="there is no voice to speak with: set model.speaker"):
        ours.translate([im.Text("a cat")], "speech")


@pytest.mark.peer
def test_folders_that_cannot_be_followed_are_told(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.check_strict(made, tmp_path)
    mute = shutil.copytree(made, tmp_path / "mute")
    (mute / "vocoder").rename(tmp_path / "speecht5_hifigan")
    assert im.load(mute).sample_rate_hz == 16_000  # beside it, by its own name
    (tmp_path / "speecht5_hifigan").rename(tmp_path / "elsewhere")
    assert "put the folder speecht5_hifigan into it as 'vocoder'" in published.refused(mute)
    other = published.rewritten(made, tmp_path / "a", "config.json", architectures=["SpeechT5ForSpeechToText"])
    assert "this package reads SpeechT5ForTextToSpeech" in published.refused(other)
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(im.MissingExtra, match="sentencepiece"):
        im.load(made)


@pytest.mark.peer
def test_the_server_speaks(made: Path) -> None:
    pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")
    ours = im.load(made)

    async def ask() -> bytes:
        async with places.client(places.server({"speecht5": ours})) as asked:
            spoken = await asked.audio.speech.create(
                model="tts-1", voice="any", input="the red cat", response_format="wav"
            )
            return bytes(spoken.content)

    (expected,) = ours.translate([im.Text("the red cat")], "speech")
    np.testing.assert_allclose(im.Audio.open(asyncio.run(ask())).samples, expected.samples, atol=1e-4)
