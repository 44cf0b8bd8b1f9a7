import math

import numpy as np
import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.evaluation.fidelity import (
    mel_cepstral_distortions,
    perceptual_distance,
    perceptual_distances,
    picture_fidelity,
    psnr,
    series_fidelity,
    sound_fidelity,
    ssim,
)

RATE_HZ = 8000


def pictures(*shape, seed=0):
    """Returns pictures in 0 to 1 and noisy copies of them."""
    rng = np.random.default_rng(seed)
    wanted = rng.random(shape)
    return np.clip(wanted + 0.1 * rng.normal(size=shape), 0, 1), wanted


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize("shape", [(3, 3, 24, 17), (2, 1, 11, 30)])
def test_pictures_equal_torchmetrics(shape, data_range):
    peer = pytest.importorskip("torchmetrics.functional.image")
    made, wanted = (torch.tensor(x * data_range) for x in pictures(*shape))
    for i in range(shape[0]):
        one, other = made[i : i + 1], wanted[i : i + 1]
        _, full = peer.structural_similarity_index_measure(one, other, data_range=data_range, return_full_image=True)
        similarity = full[..., 5:-5, 5:-5].mean().item()  # the peer counts a border of reflected pixels too
        ratio = peer.peak_signal_noise_ratio(one, other, data_range=data_range).item()
        assert ssim(made, wanted, data_range)[i] == pytest.approx(similarity, abs=1e-6)
        assert psnr(made, wanted, data_range)[i] == pytest.approx(ratio, abs=1e-4)
        assert 0.5 < similarity < 0.99


def test_a_clip_is_judged_frame_by_frame():
    made, wanted = pictures(2, 3, 5, 20, 20)
    frames = [ssim(made[:, :, k], wanted[:, :, k], 1.0) for k in range(5)]
    np.testing.assert_allclose(ssim(made, wanted, 1.0), np.mean(frames, axis=0))
    assert picture_fidelity(made, wanted, 1.0) == {
        "mean_squared_error": pytest.approx(np.square(made - wanted).mean()),
        "psnr": pytest.approx(psnr(made, wanted, 1.0).mean()),
        "ssim": pytest.approx(ssim(made, wanted, 1.0).mean()),
        "count": 2.0,
    }


def test_many_planes_are_compared_in_parts():
    made, wanted = pictures(50, 3, 12, 12)
    np.testing.assert_allclose(ssim(made, wanted, 1.0)[40:], ssim(made[40:], wanted[40:], 1.0))


def test_pictures_by_hand():
    black, white = np.zeros((1, 3, 16, 16), np.uint8), np.full((1, 3, 16, 16), 255, np.uint8)
    assert psnr(white, black, 255.0)[0] == pytest.approx(0.0)
    assert psnr(black + 1, black, 255.0)[0] == pytest.approx(20 * math.log10(255))
    assert psnr(black, black, 255.0)[0] == math.inf
    # where nothing varies only the means count: (2 m m' + c) / (m^2 + m'^2 + c)
    c1 = (0.01 * 255) ** 2
    assert ssim(white, black, 255.0)[0] == pytest.approx(c1 / (255**2 + c1))
    assert ssim(white, white, 255.0)[0] == pytest.approx(1.0)


def test_the_perceptual_distance_equals_cosines():
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(3, 8, 2))]
    wanted = [rng.normal(size=layer.shape) for layer in made]
    expected = np.zeros(3)
    for a, b in zip(made, wanted, strict=True):
        cosines = torch.nn.functional.cosine_similarity(torch.tensor(a), torch.tensor(b), dim=1)
        expected += (2 - 2 * cosines).flatten(1).mean(dim=1).numpy()
    np.testing.assert_allclose(perceptual_distances(made, wanted), expected)
    found = perceptual_distance([torch.tensor(x) for x in made], wanted, "own CNN, layers 1 and 2")
    assert found.figures == {"perceptual_distance": pytest.approx(expected.mean())}
    assert (found.network, found.width, found.count) == ("own CNN, layers 1 and 2", 12, 3)
    np.testing.assert_allclose(perceptual_distances(made, [-x for x in made]), 8.0)
    np.testing.assert_allclose(perceptual_distances(made, [3 * x for x in made]), 0.0, atol=1e-12)


def test_features_that_are_all_zero_are_no_error():
    nothing = [np.zeros((1, 4, 3, 3))]
    assert perceptual_distances(nothing, nothing)[0] == 0.0
    assert perceptual_distances(nothing, [np.ones((1, 4, 3, 3))])[0] == pytest.approx(1.0)


def tone(hz, level=0.5, seconds=0.5):
    return level * np.sin(2 * np.pi * hz * np.arange(int(RATE_HZ * seconds)) / RATE_HZ)[None, None]


def test_sounds_equal_numpy():
    rng = np.random.default_rng(0)
    made, wanted = rng.normal(size=(2, 2, 1, 2048)) * 0.2
    window, hop = 256, 64
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    logs = []
    for sounds in (made, wanted):
        padded = np.pad(sounds[:, 0], [(0, 0), (window // 2, window)])
        frames = np.stack([padded[:, hop * t : hop * t + window] for t in range(2048 // hop)], axis=1)
        power = (np.abs(np.fft.rfft(frames * taper)) * 4 / window) ** 2
        logs.append(10 * np.log10(power + 1e-10))
    expected = np.sqrt(np.square(logs[0] - logs[1]).mean(axis=2)).mean()
    found = sound_fidelity(made, wanted, RATE_HZ, mels=20)
    assert found["log_spectral_distance"] == pytest.approx(expected, rel=1e-4)
    assert found["count"] == 2.0


def test_sounds_by_hand():
    same = sound_fidelity(tone(440), tone(440), RATE_HZ, mels=40)
    assert same == {"log_spectral_distance": 0, "mel_distance": 0, "mel_cepstral_distortion": 0, "count": 1}
    noise = np.random.default_rng(0).normal(size=(1, 1, 8000))
    louder = sound_fidelity(0.2 * noise, 0.1 * noise, RATE_HZ, mels=40)
    assert louder["log_spectral_distance"] == pytest.approx(20 * math.log10(2), abs=0.01)
    assert louder["mel_distance"] == pytest.approx(20 * math.log10(2), abs=0.01)
    assert louder["mel_cepstral_distortion"] == pytest.approx(0.0, abs=0.01)
    phase = sound_fidelity(tone(440), -tone(440), RATE_HZ, mels=40)
    assert max(phase["log_spectral_distance"], phase["mel_cepstral_distortion"]) < 1e-6


def test_sounds_are_farther_the_more_they_differ():
    found = [sound_fidelity(tone(hz), tone(440), RATE_HZ, mels=40) for hz in (445, 500, 1000)]
    for name in ("mel_distance", "mel_cepstral_distortion"):
        assert found[0][name] < found[1][name] < found[2][name]


def test_channels_count_alike():
    left, right = tone(440), tone(600)
    both = sound_fidelity(np.concatenate([left, right], 1), np.concatenate([left, left], 1), RATE_HZ, mels=40)
    assert both["mel_distance"] == pytest.approx(sound_fidelity(right, left, RATE_HZ, mels=40)["mel_distance"] / 2)


@pytest.mark.parametrize(("wave", "heard"), [(0, 0.0), (1, 1.0), (13, 1.0), (14, 0.0)])
def test_the_cepstral_distortion_of_one_wave_over_the_bands(wave, heard):
    bands = np.cos(np.pi * wave * (np.arange(30) + 0.5) / 30)
    made = np.repeat(bands[None, :, None], 4, axis=2)
    expected = 10 / math.log(10) * math.sqrt(2) * 0.5 * heard
    np.testing.assert_allclose(mel_cepstral_distortions(made, np.zeros_like(made)), [expected], atol=1e-12)


def test_the_error_of_series_is_one_for_the_best_constant():
    wanted = np.random.default_rng(0).normal(size=(5, 3, 40)) * np.array([1.0, 100.0, 1e-3])[:, None] + 7
    constant = np.broadcast_to(wanted.mean(axis=(0, 2))[:, None], wanted.shape)
    assert series_fidelity(constant, wanted)["normalised_error"] == pytest.approx(1.0)
    assert series_fidelity(wanted, wanted)["normalised_error"] == 0.0
    half = series_fidelity(torch.tensor((constant + wanted) / 2), wanted)
    assert half == {"normalised_error": pytest.approx(0.5), "channels": 3.0, "count": 5.0}
    wanted[:, 1] = 4.0
    assert series_fidelity(wanted, wanted)["channels"] == 2.0


def refusals():
    made, wanted = pictures(2, 3, 16, 16)
    layers = [made]
    sound = np.zeros((1, 1, 1000))
    yield lambda: psnr(made[:0], wanted[:0], 1.0), "not empty"
    yield lambda: psnr(made, wanted, 0.0), "data_range is 0.0"
    yield lambda: ssim(made, wanted, math.inf), "data_range is inf"
    yield lambda: psnr(made * np.nan, wanted, 1.0), "not finite"
    yield lambda: ssim(made[..., :10], wanted[..., :10], 1.0), "at least 11 x 11"
    yield lambda: ssim(made[:, 0], wanted[:, 0], 1.0), "takes pictures"
    yield lambda: perceptual_distances([], []), "0 and 0 layers"
    yield lambda: perceptual_distances(layers, layers * 2), "1 and 2 layers"
    yield lambda: perceptual_distance(layers, layers, ""), "no name"
    yield lambda: sound_fidelity(sound, sound, RATE_HZ, mels=13), "mels 13"
    yield lambda: sound_fidelity(sound, sound, RATE_HZ, window_s=0.0), "window_s is 0.0"
    yield lambda: sound_fidelity(sound, sound, RATE_HZ, mels=300), "mels=300 is too many"
    yield lambda: mel_cepstral_distortions(np.ones((1, 13, 4)), np.ones((1, 13, 4))), "13 mel bands"
    yield lambda: series_fidelity(np.ones((2, 3, 4)), np.ones((2, 3, 4))), "none of the 3 channels varies"


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=case[1]) for case in refusals()])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()


def test_shapes_that_do_not_fit_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    made, wanted = pictures(2, 3, 16, 16)
    plain = lambda function: getattr(function, "__wrapped__", function)  # noqa: E731
    with pytest.raises(InvalidValue, match="give both the same"):
        plain(psnr)(made, wanted[:1], 1.0)
    with pytest.raises(InvalidValue, match="features of 1 items"):
        plain(perceptual_distances)([made, made[:1]], [wanted, wanted[:1]])
