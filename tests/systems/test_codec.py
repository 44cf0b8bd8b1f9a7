"""A codec: ids in the middle, the same alone and in company, and items out of ids."""

from typing import Any

import numpy as np
import pytest
import torch

from intermodal.config import override
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.audio import Audio, AudioPreprocessor
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.modalities.timeseries import TimeSeries, TimeSeriesPreprocessor
from intermodal.objectives.reconstruction import distance, prominence
from intermodal.saving import load_model, save_model
from intermodal.systems.codec import ONE_OF, SIZES, Codec, Config, build, sized
from intermodal.tokenizers.codebook import QUANTIZERS, Codebook
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Batch, Codes, Trains

PICTURES = [sample["image"] for sample in Diorama("train", fields=("image",), size=8).samples(range(8))]


def small(quantizer: str = "fsq", groups: int = 2) -> Codec:
    """Returns a codec of pictures: four positions."""
    torch.manual_seed(0)
    shape = ImagePreprocessor(16, 16, 8)
    return build(
        Config("image", shape, (2, 2), (4, 4), (16, 24), 32, 1, 2, Codebook(quantizer, (5, 5), groups), -0.6, 0.4)
    )


def of_series(**changes: Any) -> Codec:
    torch.manual_seed(0)
    shape = TimeSeriesPreprocessor(channels=1, sample_rate_hz=1.0, patch=4)
    return build(Config("trace", shape, (0,), (2,), (8, 12), 16, 1, 2, Codebook(levels=(4, 4)), **changes))


def trace(samples: int) -> TimeSeries:
    return TimeSeries(np.random.default_rng(samples).normal(size=(1, samples)).astype(np.float32), ("channel1",), 1.0)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_ids_and_values_have_their_shapes(quantizer: str) -> None:
    model = small(quantizer).eval()
    assert isinstance(model, Trains)
    assert isinstance(model, Codes)
    batch = model.config.preprocessor([PICTURES[0], None, PICTURES[1]])
    coded = model.encode(batch)
    assert (coded.values.shape, coded.values.dtype) == ((3, 4, 2), torch.int64)
    assert (model.codes, model.groups) == (25, 2)
    assert int(coded.values[1].sum()) == 0
    assert coded.mask.tolist() == batch.mask.tolist()
    assert model.decode(coded.values).shape == batch.values.shape
    assert bool((model.decode(coded.values, coded.mask)[[0, 2]] == model.decode(coded.values[[0, 2]])).all())


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_decoding_ids_is_what_the_loss_looks_at(quantizer: str) -> None:
    model = small(quantizer)
    batch = model.config.preprocessor(PICTURES[:4])
    model.train().losses({"image": batch})  # VQ fills its table
    model.eval()
    truth, guess = ((v + 0.6) / 0.4 for v in (batch.values, model.decode(model.encode(batch).values)))
    expected = distance(guess, truth, prominence(truth, torch.ones(4, 16, 16), model.config.prominence))
    torch.testing.assert_close(model.losses({"image": batch})["reconstruction"].detach(), expected)


def test_eight_pictures_are_learnt_by_heart_and_survive_saving(tmp_path: Any) -> None:
    model = small(groups=3).train()
    batch = model.config.preprocessor(PICTURES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(250):
        loss = torch.stack(list(model.losses({"image": batch}).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    coded = model.tokens(PICTURES)
    away = model.decode(coded.values, coded.mask) - batch.values
    assert float(away.square().mean() / batch.values.var()) < 0.2
    loaded = load_model(save_model(tmp_path / "m", model))
    assert loaded.config == model.config
    assert bool((loaded.tokens(PICTURES).values == coded.values).all())
    assert loaded.items(coded.values) == model.items(coded.values)


def test_a_row_has_the_same_ids_alone_in_company_and_beside_padding() -> None:
    model = of_series()
    items = [trace(n) for n in (24, 4, 13)]
    together = model.tokens(items)
    assert together.mask.sum(dim=1).tolist() == [6, 1, 4]
    assert int(together.values[~together.mask].sum()) == 0
    back = model.items(together.values, together.mask)
    for i, item in enumerate(items):
        alone = model.tokens([item])
        assert bool((alone.values[0] == together.values[i][together.mask[i]]).all())
        own = model.items(alone.values)[0]
        np.testing.assert_allclose(own.values, back[i].values, atol=1e-5)
        assert back[i].values.shape[1] == 4 * int(together.mask[i].sum())
    assert bool((model.tokens(items, batch_size=1).values == together.values).all())


def test_what_stands_in_the_padding_changes_no_loss() -> None:
    model = of_series()
    batch = model.config.preprocessor([trace(24), trace(4), None])
    wild = batch.values.clone()
    wild[1, :, 4:] = 100.0
    wild[2] = -50.0
    for name, value in model.losses({"trace": batch}).items():
        torch.testing.assert_close(model.losses({"trace": Batch(wild, batch.mask)})[name], value)


def test_sounds_come_back_as_long_as_they_were() -> None:
    torch.manual_seed(0)
    shape = AudioPreprocessor(channels=2, mels=24, window=512, hop=256)
    model = build(Config("sound", shape, (1, 0), (4, 1), (8, 12), 16, 1, 2))
    sounds = [
        Audio(np.random.default_rng(n).uniform(-0.1, 0.1, (2, n)).astype(np.float32), 16000) for n in (4096, 1024)
    ]
    coded = model.tokens(sounds)
    assert coded.mask.sum(dim=1).tolist() == [4, 1]
    assert [item.samples.shape for item in model.items(coded.values, coded.mask)] == [(2, 4096), (2, 1024)]


def test_nothing_is_left_in_another_mode() -> None:
    for mode in (True, False):
        model = small().train(mode)
        model.items(model.tokens(PICTURES[:2]).values)
        assert model.training is mode


def test_ids_that_fill_no_grid_and_rows_without_any_are_refused() -> None:
    model = small().eval()
    with pytest.raises(InvalidValue, match=r"3 positions fill no grid of \(2, 2\)"):
        model.decode(torch.zeros(1, 3, 2, dtype=torch.int64))
    with pytest.raises(InvalidValue, match="row 1 has no real position"):
        model.items(torch.zeros(2, 4, 2, dtype=torch.int64), torch.tensor([[True] * 4, [False] * 4]))
    with pytest.raises(Unsupported, match="this codec is of image; it has no ids for text"):
        model.tokens([Text("a")])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("modality", ONE_OF)
def test_every_size_has_its_config(size: str, modality: str) -> None:
    config = sized(size, {"mine": modality})
    assert config.name == "mine"
    assert config.preprocessor.modality == modality
    if size == "tiny":
        weights = sum(p.numel() for p in build(config).parameters())
        assert weights < 1_000_000
        assert config.codebook.codes <= 1000


def test_one_field_of_media_is_needed() -> None:
    with pytest.raises(Unsupported, match=r"not of image, text; choose one with --fields: image$"):
        sized("tiny", {"image": "image", "text": "text"})
    with pytest.raises(Unsupported, match="the data has none"):
        sized("tiny", {"text": "text"})
    with pytest.raises(UnknownName, match="'huge'; use one of: paper, tiny"):
        sized("huge", {"image": "image"})


def test_config_says_what_does_not_fit() -> None:
    text = TextPreprocessor(tokenizer=WordTokenizer(words=("a",)))
    with pytest.raises(Unsupported, match="the field 'caption' holds text"):
        Config("caption", text, (0,))
    with pytest.raises(InvalidValue, match="along each of 2 axes"):
        Config("image", ImagePreprocessor(16, 16, 8), (4,))
    with pytest.raises(InvalidValue, match="scale of a codec is 0"):
        Config("image", ImagePreprocessor(16, 16, 8), (2, 2), scale=0.0)
    with pytest.raises(InvalidValue, match="depth of a codec is -1"):
        Config("image", ImagePreprocessor(16, 16, 8), (2, 2), depth=-1)
    with pytest.raises(UnknownName, match="'pq'"):
        override(sized("tiny", {"image": "image"}), {"codebook.quantizer": "pq"})


def test_without_slopes_or_prominence_there_is_one_plain_term() -> None:
    model = of_series(prominence=0.0, slopes=0.0)
    assert set(model.losses({"trace": model.config.preprocessor([trace(8)])})) == {"reconstruction"}
    assert set(small("vq").losses({"image": small().config.preprocessor(PICTURES[:2])})) == {
        "reconstruction",
        "slopes",
        "codebook",
    }


def test_use_of_the_codebook_is_that_of_the_last_batch() -> None:
    model = of_series().train()
    batch = model.config.preprocessor([trace(24), trace(4), None])
    model.losses({"trace": batch})
    real = model.eval().encode(batch).values[batch.mask]
    assert model.codebook_use()["share_used"] == len(torch.unique(real)) / 16


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_encoding_changes_nothing_even_while_a_model_around_it_trains(quantizer: str) -> None:
    model = small(quantizer).train()
    batch = model.config.preprocessor(PICTURES[:4])
    model.losses({"image": batch})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first, second = model.encode(batch).values, model.encode(batch).values
    assert bool((first == second).all())
    assert bool((first == model.eval().encode(batch).values).all())
    assert all(bool((before[k] == v).all()) for k, v in model.state_dict().items())


def test_positions_per_item_are_known_where_no_axis_is_open() -> None:
    assert (small().positions, of_series().positions) == (4, 0)
