"""Spectrograms: samples to log-mel magnitudes and back.

The mel scale is Slaney's: linear up to 1 kHz, logarithmic above, so that low filters are not narrower than a bin.
Filters are triangles whose weights sum to 1; a mel magnitude is the root of the mean power under one, scaled so that a
full-scale sine has 1 at its peak. So it is in [0, 1] whatever the window, and energy survives the way back.

Source: the scale is that of M. Slaney, Auditory Toolbox, report 1998-010. Back: the multiplicative updates of Lee and
Seung 2000 (NIPS, divergence) undo the filters, and the fast Griffin-Lim algorithm finds phases (Perraudin, Balazs,
Søndergaard 2013, WASPAA, algorithm 2); the phases it starts from are our own.
"""

import math
from functools import cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from intermodal.errors import InvalidValue

_FLOOR = 1e-5  # added before the logarithm: 100 dB below a full-scale sine
_CENTRE, _SCALE = (
    -7.6,
    2.4,
)  # of log magnitudes over speech, environmental sounds and tones: about zero mean, unit range
_ROWS = 4  # computed at once: their spectra stay in the cache of one core
_LINEAR_HZ = 200 / 3  # per mel below 1 kHz
_LOG_STEP = math.log(6.4) / 27  # per mel above
_KNEE_HZ = 1000.0

SILENCE = (math.log(_FLOOR) - _CENTRE) / _SCALE
"""The log-mel value of silence."""


def hz_to_mel(hz: float) -> float:
    """Returns the pitch in mel of a frequency in Hz."""
    return hz / _LINEAR_HZ if hz < _KNEE_HZ else _KNEE_HZ / _LINEAR_HZ + math.log(hz / _KNEE_HZ) / _LOG_STEP


def mel_to_hz(mel: float) -> float:
    """Returns the frequency in Hz of a pitch in mel."""
    knee = _KNEE_HZ / _LINEAR_HZ
    return mel * _LINEAR_HZ if mel < knee else _KNEE_HZ * math.exp((mel - knee) * _LOG_STEP)


@cache
def mel_filters(sample_rate_hz: int, window: int, mels: int) -> Float[Tensor, "M N"]:
    """Returns one triangular filter per row, from 0 Hz to half the sample rate, over ``window // 2 + 1`` bins.

    Raises:
        InvalidValue: there are so many filters that some lie between two bins.
    """
    top = hz_to_mel(sample_rate_hz / 2)
    edges = torch.tensor([mel_to_hz(top * i / (mels + 1)) for i in range(mels + 2)], dtype=torch.float64)
    bins = torch.arange(window // 2 + 1, dtype=torch.float64) * sample_rate_hz / window
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp_min(0)
    total = weights.sum(1, keepdim=True)
    if bool((total <= 0).any()):
        raise InvalidValue(
            f"mels={mels} is too many for window={window} at {sample_rate_hz} Hz: {int((total <= 0).sum())} hold "
            "no frequency of the spectrum; use fewer mels or a longer window"
        )
    return (weights / total).float()


@cache
def _hann(window: int) -> Float[Tensor, " W"]:
    """Returns the periodic Hann window."""
    return torch.hann_window(window)


def frame_count(samples: int, hop: int) -> int:
    """Returns the number of spectra of a sound: one every ``hop`` samples, centred there, from the first sample on."""
    return -(-samples // hop)


def stft(samples: Float[Tensor, "B S"], window: int, hop: int, frames: int) -> Complex[Tensor, "B F N"]:
    """Returns the spectra centred at samples 0, hop, 2 hop, ...; beyond its ends a sound is silent.

    Args:
        samples: sounds of equal length.
        window: length of the Hann window, in samples.
        hop: samples from one spectrum to the next.
        frames: how many spectra; those after the end are of silence.
    """
    behind = (frames - 1) * hop + window - window // 2 - samples.shape[1]
    framed = pad(samples, (window // 2, behind)).unfold(1, window, hop)
    spectra: Tensor = torch.fft.rfft(framed * _hann(window).to(samples))
    return spectra


def log_mel(
    samples: Float[Tensor, "B S"], sample_rate_hz: int, window: int, hop: int, mels: int, frames: int
) -> Float[Tensor, "B M F"]:
    """Returns scaled log-mel magnitudes: about zero mean and unit range; ``SILENCE`` where there is nothing.

    Args:
        samples: sounds of equal length.
        sample_rate_hz: their rate.
        window: length of the Hann window, in samples.
        hop: samples from one frame to the next.
        mels: filters.
        frames: how many; those after the end of the sound are of silence.
    """
    filters = mel_filters(sample_rate_hz, window, mels)
    result = torch.empty(len(samples), mels, frames)
    for start in range(0, len(samples), _ROWS):
        spectra = torch.view_as_real(stft(samples[start : start + _ROWS], window, hop, frames))
        power = spectra[..., 0].square().addcmul_(spectra[..., 1], spectra[..., 1])
        torch.matmul(filters, power.transpose(1, 2), out=result[start : start + _ROWS])
    return result.sqrt_().mul_(4 / window).add_(_FLOOR).log_().sub_(_CENTRE).div_(_SCALE)


def from_log_mel(
    values: Float[Tensor, "B M F"], sample_rate_hz: int, window: int, hop: int, rounds: int = 32
) -> Float[Tensor, "B S"]:
    """Returns sounds of ``F * hop`` samples whose scaled log-mel magnitudes are close to ``values``; always the same.

    Args:
        values: as ``log_mel`` gives them; beyond a full-scale sine they are cut.
        sample_rate_hz: rate of the sounds.
        window: length of the Hann window, in samples.
        hop: samples from one frame to the next, at most half the window.
        rounds: of the search for phases.
    """
    magnitudes = (values * _SCALE + _CENTRE).clamp_max(0.0).exp_().sub_(_FLOOR).clamp_min_(0.0) * (window / 4)
    filters = mel_filters(sample_rate_hz, window, values.shape[1])
    # one by one: the search for phases magnifies the rounding by which batches of other sizes differ
    rows = [magnitudes[i : i + 1] for i in range(len(magnitudes))]
    return torch.cat([griffin_lim(_unfiltered(row.square(), filters).sqrt(), window, hop, rounds) for row in rows])


def _unfiltered(power: Float[Tensor, "B M F"], filters: Float[Tensor, "M N"]) -> Float[Tensor, "B N F"]:
    """Returns power spectra that the filters map to ``power``, as closely as 30 multiplicative updates get.

    Of the many that fit, the start (each bin has the mean of the filters over it) chooses a smooth one.
    """
    weight = filters.sum(0)[:, None].clamp_min(1e-8)
    found = filters.T @ power / weight
    for _ in range(30):
        found = found * (filters.T @ (power / (filters @ found).clamp_min_(1e-9)) / weight)
    return found


def griffin_lim(magnitudes: Float[Tensor, "B N F"], window: int, hop: int, rounds: int) -> Float[Tensor, "B S"]:
    """Returns sounds of ``F * hop`` samples whose spectra have about these magnitudes.

    Source: Perraudin, Balazs, Søndergaard 2013, algorithm 2, with momentum 0.99, from the phases of steady tones.
    """
    magnitudes = torch.cat([magnitudes, magnitudes[..., -1:]], dim=-1)  # the last hop needs a spectrum after it
    length = (magnitudes.shape[-1] - 1) * hop
    taper = _hann(window).to(magnitudes)
    spectra = torch.polar(magnitudes, _steady_phases(magnitudes, window, hop))
    before = torch.zeros_like(spectra)
    for _ in range(rounds):
        sounds = torch.istft(spectra, window, hop, window, taper, length=length)
        consistent = torch.stft(sounds, window, hop, window, taper, pad_mode="constant", return_complex=True)
        ahead = consistent + 0.99 * (consistent - before)
        spectra = magnitudes * (ahead / ahead.abs().clamp_min_(1e-9))
        before = consistent
    return torch.istft(spectra, window, hop, window, taper, length=length)


def _steady_phases(magnitudes: Float[Tensor, "B N F"], window: int, hop: int) -> Float[Tensor, "B N F"]:
    """Returns phases that advance as a tone's do; each bin's frequency is the centre of power two bins around it.

    Two bins are the half width of a tone under a Hann window. Started from zero phases instead, the search ends at
    multiples of the frame rate: a tone of 440 Hz comes out at 400 Hz.
    """
    bins = magnitudes.shape[1]
    power = pad(magnitudes.square() + 1e-12, (0, 0, 2, 2))
    near = [power[:, i : i + bins] for i in range(5)]
    offset = (2 * (near[4] - near[0]) + near[3] - near[1]) / sum(near)
    cycles = (torch.arange(bins)[:, None] + offset).double() * (hop / window)
    return (cycles.cumsum(dim=-1).remainder(1.0) * (2 * math.pi)).to(magnitudes)
