"""The scripts that compare generators and word vectors: what they compute besides training."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.modalities.image import Image
from tests import scripts


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Returns a script, imported under a name that no other module has."""
    monkeypatch.syspath_prepend(scripts.BENCHMARKS / "real")
    return scripts.load(request.param)


def named(name: str) -> pytest.MarkDecorator:
    """Returns the mark that imports a script."""
    return pytest.mark.parametrize("script", [name], indirect=True)


def found(**errors: float) -> dict[str, Any]:
    quality = {
        name: {"squared_error": error, "from_noise.sharpness": error, "from_noise.frechet": 2.0}
        for name, error in errors.items()
    }
    across = {"image>audio": {"coherence": 0.9}, "text>image": {"coherence": 0.5}}
    joint = {"joint": {"joint_coherence": 0.6}, "joint_by_word": {"joint_coherence": 0.7}}
    return {"quality": quality, "across": across, **joint}


@named("vae_gan")
def test_the_plain_vae_whose_reconstruction_is_nearest_is_the_one_compared(script: ModuleType) -> None:
    one = found(vae_gan=0.02, plain=0.01, **{"plain-tight": 0.03})
    assert script.nearest(one) == "plain-tight"
    figures = script.figures(one)
    assert figures["digits.image_to_audio"] == (90.0, "%", "≥ 88")
    assert figures["digits.text_to_image"] == (50.0, "%", "-")
    assert figures["digits.joint"] == (60.0, "%", "≥ 41")
    assert figures["digits.joint_by_word"] == (70.0, "%", "-")
    assert figures["digits.vae_gan.from_noise.sharpness"] == (2.0, "%", "above 3.0 (plain VAE)")
    assert figures["digits.vae_gan.from_noise.frechet"] == (2.0, "", "below 2 (plain VAE)")
    assert figures["digits.plain_vae.squared_error"] == (0.03, "", "-")


@named("wavenet")
def test_the_recurrent_network_has_no_more_weights_and_predicts_what_comes_next(script: ModuleType) -> None:
    network = script.Gru(40_000)
    count = sum(p.numel() for p in network.parameters())
    assert 38_000 < count <= 40_000
    ids, mask = torch.randint(256, (2, 30)), torch.arange(30) < torch.tensor([[30], [12]])
    wild = torch.where(mask, ids, 7)
    torch.testing.assert_close(network.bits(ids, mask), network.bits(wild, mask))
    assert float(network.bits(ids, mask).detach()) == pytest.approx(8.0, abs=0.5)


@named("wavenet")
def test_a_batch_holds_stretches_of_recordings_and_their_words(script: ModuleType) -> None:
    some = [(torch.arange(6), 3), (torch.arange(100), 0)]
    ids, mask, words = script.batch_of(some, 10)
    assert ids[0, :6].tolist() == list(range(6))
    assert mask.sum(dim=1).tolist() == [6, 10]
    assert bool((ids[1].diff() == 1).all())
    assert words.argmax(dim=2)[:, 0].tolist() == [3, 0]


@named("word_vectors")
def test_captions_of_one_photograph_find_each_other(script: ModuleType) -> None:
    rows = np.repeat(np.eye(3), 5, axis=0)
    assert script.found_by(rows, 3) == {"recall_at_1": 100.0, "recall_at_10": 100.0}
    rows[0] = rows[5]  # the first one asks for the second photograph
    assert script.found_by(rows, 3)["recall_at_1"] == pytest.approx(200 / 3)


@named("word_vectors")
def test_rare_words_weigh_more(script: ModuleType) -> None:
    rows = script.counted(["a cat", "a dog dog", "bird"], ["a cat", "a dog", "a saw"])
    assert rows.shape == (3, 4)
    assert float(rows[0].max()) == pytest.approx(np.log(3))
    assert float(rows[1].max()) == pytest.approx(2 * np.log(3))
    assert float(rows[2].sum()) == 0.0
    assert float(rows[0].min()) == 0.0  # what is everywhere tells nothing


@named("dalle2_pictures")
def test_rows_of_pictures_become_one_sheet(script: ModuleType) -> None:
    red, blue = (Image(np.full((4, 4, 3), colour, np.uint8)) for colour in ((255, 0, 0), (0, 0, 255)))
    found = script.sheet([[red, blue], [blue]])
    side, step = 4 * script.SCALE, (4 + script.GAP) * script.SCALE
    assert found.shape == (step + side, step + side, 3)
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, step].tolist() == found[step, 0].tolist() == [0, 0, 255]
    assert found[step, step].tolist() == [255, 255, 255]
