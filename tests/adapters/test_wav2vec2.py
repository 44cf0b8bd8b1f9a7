"""Published wav2vec 2.0 folders with a CTC head, made with random weights, against the library that wrote them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.modalities.audio import Audio
from intermodal.sampling.autoregressive import Sampling
from tests import published

RATE = 16_000
LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLU")
SOUNDS = [published.wave(0.5, RATE), published.wave(0.8, RATE, 250.0), published.wave(0.2, RATE, 1500.0)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "wav2vec2"
    folder.mkdir()
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 17}
    sizes |= {"intermediate_size": 24, "conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (20, 8)}
    sizes |= {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    torch.manual_seed(0)
    network = published.shaken(library.Wav2Vec2ForCTC(library.Wav2Vec2Config(**sizes, pad_token_id=0)), 0.4)
    network.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(LETTERS)}))
    library.Wav2Vec2CTCTokenizer(folder / "vocab.json").save_pretrained(folder)
    library.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder, network


def theirs(folder: Path, network: Any, sound: np.ndarray) -> str:
    """Returns what the library itself reads in a sound."""
    library = published.library()
    heard = library.Wav2Vec2FeatureExtractor.from_pretrained(folder)(sound, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        ids = network(heard["input_values"]).logits[0].argmax(-1)
    tokenizer = library.Wav2Vec2CTCTokenizer.from_pretrained(folder)
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


@pytest.mark.peer
def test_words_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    ours = im.load(folder)
    expected = [theirs(folder, network, sound) for sound in SOUNDS]
    assert len(set(expected)) > 1
    items = [Audio(sound, RATE) for sound in SOUNDS]
    assert [item.text for item in ours.translate(items, "text")] == expected
    assert ours.translate([items[0].resampled(48_000).resampled(RATE)], "text")[0].modality == "text"


@pytest.mark.peer
def test_long_and_tiny_sounds_are_read(made: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from intermodal.adapters import wav2vec2

    folder, network = made
    ours = im.load(folder)
    monkeypatch.setattr(wav2vec2, "WINDOW_S", 1.0)
    whole = np.concatenate([SOUNDS[1], np.zeros(1600, np.float32), SOUNDS[0]])
    cut = len(SOUNDS[1]) + 160
    expected = " ".join(filter(None, (theirs(folder, network, part) for part in (whole[:cut], whole[cut:]))))
    assert ours.translate([Audio(whole, RATE)], "text")[0].text == expected
    assert ours.translate([Audio(whole[:3], RATE)], "text")[0].modality == "text"
    batch = ours.preprocessors["audio"]([Audio(s, RATE) for s in SOUNDS])
    assert batch.mask.sum(dim=1).tolist() == [len(s) for s in SOUNDS]


@pytest.mark.peer
def test_only_the_likeliest_letters_are_taken(made: tuple[Path, Any]) -> None:
    ours = im.load(made[0])
    for how in ({"count": 2}, {"sampling": Sampling(0.7)}):
        with pytest.raises(im.Unsupported, match="takes the likeliest letter of each moment"):
            ours.translate([Audio(SOUNDS[0], RATE)], "text", **how)


def as_first_published(state: dict[str, torch.Tensor]) -> None:
    """Names weights as the first files do, which also lack what is read in training alone."""
    state.pop("wav2vec2.masked_spec_embed")
    for number, name in enumerate(("weight_g", "weight_v")):
        start = "wav2vec2.encoder.pos_conv_embed.conv"
        state[f"{start}.{name}"] = state.pop(f"{start}.parametrizations.weight.original{number}")


@pytest.mark.peer
def test_weights_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    older = published.changed(folder, tmp_path / "older", as_first_published)
    items = [Audio(sound, RATE) for sound in SOUNDS]
    assert im.load(older).translate(items, "text") == im.load(folder).translate(items, "text")
    (older / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate((*LETTERS, "X"))}))
    assert "gives ids up to 17 and the network knows 17" in published.refused(older)
