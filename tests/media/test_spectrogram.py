import numpy as np
import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.media.spectrogram import SILENCE, from_log_mel, hz_to_mel, log_mel, mel_filters, mel_to_hz, stft

RATE, WINDOW, HOP, MELS = 16_000, 400, 160, 64


def tone(hz: float, seconds: float = 1.2, amplitude: float = 0.5) -> torch.Tensor:
    return amplitude * torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * RATE)) / RATE)


def linear(values: torch.Tensor) -> torch.Tensor:
    """Undoes the scaling, from the two values that the scale is known to have: silence and full scale."""
    full = (np.log(1 + 1e-5) + 7.6) / 2.4
    log = (values - SILENCE) / (full - SILENCE) * (np.log(1 + 1e-5) - np.log(1e-5)) + np.log(1e-5)
    return log.exp() - 1e-5


def test_the_mel_scale_is_slaneys() -> None:
    for hz, mel in ((0, 0), (200, 3), (1000, 15), (6400, 42)):
        assert hz_to_mel(hz) == pytest.approx(mel)
        assert mel_to_hz(mel) == pytest.approx(hz)


def test_filters_are_triangles_of_weight_one_from_0_hz_to_half_the_rate() -> None:
    filters = mel_filters(RATE, WINDOW, MELS)
    assert filters.shape == (MELS, WINDOW // 2 + 1)
    torch.testing.assert_close(filters.sum(1), torch.ones(MELS))
    assert (filters >= 0).all()
    centres = filters @ (torch.arange(201) * RATE / WINDOW)
    assert (centres.diff() > 0).all()
    assert centres[0] < 100
    assert centres[-1] > 7300
    for row in filters:
        slope = row[row > 0].diff().sign()
        assert (slope.diff() <= 0).all()  # up, then down
    assert mel_filters(RATE, WINDOW, MELS) is filters


def test_too_many_filters_are_refused() -> None:
    with pytest.raises(InvalidValue, match="mels=300 is too many for window=400 at 16000 Hz"):
        mel_filters(RATE, WINDOW, 300)


@pytest.mark.parametrize(("window", "hop"), [(400, 160), (512, 128), (255, 100)])
def test_spectra_are_those_of_torch(window: int, hop: int) -> None:
    sounds = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    theirs = torch.stft(
        sounds, window, hop, window, torch.hann_window(window), center=True, pad_mode="constant", return_complex=True
    )
    ours = stft(sounds, window, hop, theirs.shape[2])
    torch.testing.assert_close(ours.transpose(1, 2), theirs, atol=2e-5, rtol=1e-5)
    behind = stft(sounds, window, hop, theirs.shape[2] + 9)
    torch.testing.assert_close(behind[:, : theirs.shape[2]], ours)
    assert behind[:, -5:].abs().max() == 0


def test_log_mel_equals_its_definition() -> None:
    sounds = torch.randn(9, 3000, generator=torch.Generator().manual_seed(0)) * 0.1
    spectra = torch.stft(
        sounds, WINDOW, HOP, WINDOW, torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True
    )[..., :19].abs()
    filters = mel_filters(RATE, WINDOW, MELS)
    magnitudes = (filters @ spectra.square()).sqrt() * 2 / torch.hann_window(WINDOW).sum()
    expected = (torch.log(1e-5 + magnitudes) + 7.6) / 2.4
    torch.testing.assert_close(log_mel(sounds, RATE, WINDOW, HOP, MELS, 19), expected, atol=1e-5, rtol=1e-5)


def test_silence_and_full_scale() -> None:
    assert log_mel(torch.zeros(1, 1600), RATE, WINDOW, HOP, MELS, 10).unique().tolist() == pytest.approx([SILENCE])
    values = log_mel(tone(1000, amplitude=1.0)[None], RATE, WINDOW, HOP, 8, 120)
    middle = linear(values)[0, :, 60]
    assert middle.sum() > 0.1
    assert middle.max() < 1
    quiet = linear(log_mel(tone(1000, amplitude=0.01)[None], RATE, WINDOW, HOP, 8, 120))[0, :, 60]
    torch.testing.assert_close(quiet * 100, middle, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("hz", [150.0, 440.0, 1000.0, 3000.0, 6000.0])
def test_a_tone_comes_back_at_its_pitch(hz: float) -> None:
    values = log_mel(tone(hz)[None], RATE, WINDOW, HOP, MELS, 120)
    again = from_log_mel(values, RATE, WINDOW, HOP)
    assert again.shape == (1, 120 * HOP)
    spectrum = torch.fft.rfft(again[0] * torch.hann_window(again.shape[1])).abs()
    found = float(spectrum.argmax()) * RATE / again.shape[1]
    assert abs(found - hz) < (2 if hz <= 1000 else 0.02 * hz)
    assert float(again.square().mean().sqrt()) == pytest.approx(0.5 / 2**0.5, rel=0.08)


def test_inverted_sounds_have_nearly_the_same_log_mel() -> None:
    t = torch.arange(19_200) / RATE
    glide = 0.4 * torch.sin(2 * torch.pi * (200 * t + 300 * t * t)) * (t < 0.9)
    noise = 0.1 * torch.randn(19_200, generator=torch.Generator().manual_seed(0))
    sounds = torch.stack([tone(440), glide, noise, (0.3 * tone(330) + noise * 0.3) * (t > 0.2)])
    values = log_mel(sounds, RATE, WINDOW, HOP, MELS, 120)
    back = from_log_mel(values, RATE, WINDOW, HOP)
    again = log_mel(back, RATE, WINDOW, HOP, MELS, 120)
    error = (again - values).abs() * 2.4  # in natural log: 0.1 is about 10 %
    assert error[2].mean() < 0.06
    assert error[3].mean() < 0.12
    assert error.mean() < 0.4  # the tone: what lies 90 dB below it counts too
    loud = values > SILENCE + 2  # above the floor by 40 dB
    assert error[loud].mean() < 0.06
    energy = back.square().mean(1) / sounds.square().mean(1)
    assert energy.sub(1).abs().max() < 0.1


def test_inversion_is_the_same_alone_and_every_time() -> None:
    values = log_mel(torch.stack([tone(440), tone(700), tone(90)]), RATE, WINDOW, HOP, MELS, 120)
    together = from_log_mel(values, RATE, WINDOW, HOP)
    assert torch.equal(from_log_mel(values[1:2], RATE, WINDOW, HOP), together[1:2])
    assert torch.equal(from_log_mel(values, RATE, WINDOW, HOP), together)


def test_silence_comes_back_as_silence() -> None:
    again = from_log_mel(torch.full((1, MELS, 8), SILENCE), RATE, WINDOW, HOP)
    assert again.abs().max() < 1e-6
