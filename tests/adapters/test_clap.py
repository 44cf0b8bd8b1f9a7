"""Published CLAP folders, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch

import intermodal as im
from intermodal.modalities.audio import Audio
from intermodal.modalities.text import Text
from tests import published

TEXTS = ("a dog barks", "the cat of the red house", "what")
RATE = 8_000
SOUNDS = [published.wave(0.4, RATE), published.wave(1.0, RATE, 200.0), published.wave(0.09, RATE, 900.0)]


def build(folder: Path, fused: bool) -> Any:
    """Writes a folder and returns the network in it."""
    library = published.library()
    tokenizer = published.word_tokenizer(bos_token="<s>", cls_token="<s>", sep_token="</s>")
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 24, "max_position_embeddings": 14, "projection_dim": 12}
    audio: dict[str, Any] = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "window_size": 4,
    }
    audio |= {"depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16}
    audio |= {"projection_dim": 12, "enable_fusion": fused, "num_classes": 4}
    audio |= {"fusion_type": None, "aff_block_r": 2}
    config = library.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    torch.manual_seed(0)
    network = published.shaken(library.ClapModel(config))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sizes = {"feature_size": 16, "sampling_rate": RATE, "hop_length": 100, "max_length_s": 1, "fft_window_size": 256}
    truncation = "fusion" if fused else "rand_trunc"
    library.ClapFeatureExtractor(**sizes, frequency_max=3500, truncation=truncation).save_pretrained(folder)
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "clap"
    return folder, build(folder, fused=False)


@pytest.mark.peer
@pytest.mark.parametrize("fused", [False, True])
def test_vectors_and_probabilities_are_those_of_transformers(
    made: tuple[Path, Any], tmp_path: Path, fused: bool
) -> None:
    folder, network = made if not fused else (tmp_path, build(tmp_path, fused=True))
    library = published.library()
    ours = im.load(folder)
    words = library.AutoTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, return_tensors="pt")
    heard = library.ClapFeatureExtractor.from_pretrained(folder)(SOUNDS, sampling_rate=RATE, return_tensors="pt")
    heard["is_longer"] = torch.zeros(3, 1, dtype=torch.bool)  # the library calls one of them longer, at random
    with torch.no_grad():
        both = network(**words, **heard)
    texts, sounds = [Text(t) for t in TEXTS], [Audio(s, RATE) for s in SOUNDS]
    assert float((ours.embed(texts) - both.text_embeds).abs().max()) < 1e-5
    assert float((ours.embed(sounds) - both.audio_embeds).abs().max()) < 1e-5
    alone = torch.cat([ours.embed([item]) for item in (*texts, *sounds)])
    assert float((ours.embed([*texts, *sounds]) - alone).abs().max()) < 1e-5
    torch.testing.assert_close(ours.classify(sounds, TEXTS), both.logits_per_audio.softmax(-1), rtol=1e-4, atol=1e-6)


@pytest.mark.peer
def test_sounds_of_any_rate_length_and_channels_are_read(made: tuple[Path, Any]) -> None:
    ours = im.load(made[0])
    sound = published.wave(2.5, RATE)
    whole = ours.embed([Audio(sound, RATE)])
    assert torch.equal(whole, ours.embed([Audio(sound[:RATE], RATE)]))  # of a longer one the beginning is read
    stereo = Audio(torch.from_numpy(sound).expand(2, -1).numpy(), RATE).resampled(16_000)
    assert float((ours.embed([stereo]) * whole).sum()) > 0.999
    assert ours.preprocessors["audio"].seconds_max == 1.0


@pytest.mark.peer
def test_what_it_does_not_read_is_said(made: tuple[Path, Any]) -> None:
    ours = im.load(made[0])
    with pytest.raises(im.Unsupported, match="no tower for image; it reads audio, text"):
        ours.embed([im.Image(published.picture(8, 8))])
    with pytest.raises(im.Unsupported, match="in fp32 or bf16, not in int8"):
        ours.embed([Text("a dog")], precision="int8")


@pytest.mark.peer
def test_weights_and_files_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    copy = published.changed(folder, tmp_path / "deaf", lambda state: None)
    (copy / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json in" in published.refused(copy)
