"""Published VITS folders, made with random weights, against the library that wrote them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.adapters.vits import sentences
from intermodal.cli.app import run
from intermodal.modalities.audio import Audio
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from tests import published

RATE = 16_000
LETTERS = (*"_abcdefghilmnorstu ", "<unk>")


def build(folder: Path, speakers: int = 1, phonemize: bool = False) -> Any:
    """Writes a folder and returns the network in it."""
    library = published.library()
    folder.mkdir(exist_ok=True)
    sizes: dict[str, Any] = {"vocab_size": len(LETTERS), "hidden_size": 8, "num_hidden_layers": 1, "ffn_dim": 12}
    sizes |= {"num_attention_heads": 2, "flow_size": 8, "spectrogram_bins": 9, "upsample_initial_channel": 8}
    sizes |= {"upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8], "resblock_kernel_sizes": [3]}
    sizes |= {"resblock_dilation_sizes": [[1, 3]], "prior_encoder_num_flows": 1, "prior_encoder_num_wavenet_layers": 1}
    sizes |= {"posterior_encoder_num_wavenet_layers": 1, "duration_predictor_num_flows": 1}
    sizes |= {"duration_predictor_filter_channels": 8, "depth_separable_num_layers": 1, "window_size": 2}
    if speakers > 1:
        sizes |= {"num_speakers": speakers, "speaker_embedding_size": 4}
    torch.manual_seed(0)
    network = published.shaken(library.VitsModel(library.VitsConfig(**sizes, sampling_rate=RATE)), 0.05)
    network.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(LETTERS)}))
    tokenizer = library.VitsTokenizer(folder / "vocab.json", pad_token="_", phonemize=phonemize, language="eng")
    tokenizer.save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "vits"
    return folder, build(folder)


def theirs(folder: Path, text: str, seed: int = 0, **how: Any) -> np.ndarray:
    """Returns what the library itself makes of a sentence, loaded from the folder."""
    library = published.library()
    network = library.VitsModel.from_pretrained(folder).eval()
    given = library.VitsTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    torch.manual_seed(seed)
    with torch.no_grad():
        made: np.ndarray = network(given["input_ids"], **how).waveform[0].numpy()
    return made.clip(-1, 1)


@pytest.mark.peer
def test_the_waveform_is_that_of_transformers(made: tuple[Path, Any]) -> None:
    folder, _ = made
    ours = im.load(folder)
    for seed, sampling in ((0, None), (3, Sampling(seed=3))):
        (sound,) = ours.translate([Text("the red cat")], "speech", sampling=sampling)
        assert isinstance(sound, Audio)
        assert sound.sample_rate_hz == RATE
        np.testing.assert_allclose(sound.samples[0], theirs(folder, "the red cat", seed), atol=1e-5)
    again = ours.translate([Text("a horse"), Text("the red cat")], "audio")
    assert again[1] == ours.translate([Text("the red cat")], "speech")[0]  # alone as among others
    assert float(np.abs(sound.samples).max()) > 0.001


@pytest.mark.peer
def test_a_text_is_spoken_sentence_by_sentence(made: tuple[Path, Any]) -> None:
    folder, _ = made
    ours = im.load(folder)
    assert sentences("The cat. Is it 3.5? \n Yes!\n\n") == ["The cat.", "Is it 3.5?", "Yes!"]
    (whole,) = ours.translate([Text("The cat. 123. Red!")], "speech")
    parts = [theirs(folder, "The cat."), np.zeros(round(0.2 * RATE)), theirs(folder, "Red!")]
    np.testing.assert_allclose(whole.samples[0], np.concatenate(parts), atol=1e-5)
    for text in ("", "123 456"):
        with pytest.raises(im.InvalidValue, match="has no letter that this voice speaks"):
            ours.translate([Text(text)], "speech")


@pytest.mark.peer
def test_speakers_are_chosen_by_number(tmp_path: Path) -> None:
    build(tmp_path, speakers=3)
    ours = im.load(tmp_path)
    ours.speaker, ours.rate = 2, 0.5
    (sound,) = ours.translate([Text("the cat")], "speech")
    np.testing.assert_allclose(
        sound.samples[0], theirs(tmp_path, "the cat", speaker_id=2, speaking_rate=0.5), atol=1e-5
    )
    ours.speaker = 3
    with pytest.raises(im.InvalidValue, match="speaker is 3; this model has 3, counted from 0"):
        ours.translate([Text("the cat")], "speech")


@pytest.mark.peer
def test_folders_that_cannot_be_followed_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    published.check_strict(made[0], tmp_path)
    build(tmp_path / "phonemes", phonemize=True)
    assert "pip install phonemizer" in published.refused(tmp_path / "phonemes")


@pytest.mark.peer
def test_the_server_speaks(made: tuple[Path, Any]) -> None:
    pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")
    ours = im.load(made[0])

    async def ask() -> bytes:
        async with places.client(places.server({"vits": ours})) as asked:
            spoken = await asked.audio.speech.create(
                model="tts-1", voice="any", input="the red cat", response_format="wav"
            )
            return bytes(spoken.content)

    (expected,) = ours.translate([Text("the red cat")], "speech")
    np.testing.assert_allclose(Audio.open(asyncio.run(ask())).samples, expected.samples, atol=1e-4)


@pytest.mark.peer
def test_the_command_speaks(made: tuple[Path, Any], tmp_path: Path) -> None:
    out = tmp_path / "said.wav"
    assert run(["translate", "the red cat", "--to", "speech", "--model", str(made[0]), "--out", str(out)]) == 0
    (expected,) = im.load(made[0]).translate([Text("the red cat")], "speech")
    np.testing.assert_allclose(Audio.open(out).samples, expected.samples, atol=1e-4)
