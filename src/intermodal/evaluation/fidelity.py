"""Fidelity: how close made media are to the very ones that were wanted, item by item.

Media lie as they do in a batch: pictures ``(N, C, H, W)``, clips ``(N, C, F, H, W)``, sounds and series ``(N, C, S)``.
Where several answers are right (a sentence has many pictures) these figures punish all but one of them; there, read
the answer back (``scenes``) or compare distributions.

Simplified: SSIM is taken of each channel and averaged, without Wang's reduction of large pictures; the perceptual
distance has no learned weights, so it is not LPIPS, only its form; the mel-cepstral distortion compares frame by frame,
without aligning times, and its cepstra come from mel filters.

Source: SSIM: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13 and
section III.C. Perceptual distance: Zhang et al. 2018, arXiv 1801.03924, eq. 1. Log-spectral distance: Gray, Markel
1976, "Distance measures for speech processing". Mel-cepstral distortion: Kubichek 1993.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Num
from numpy.typing import NDArray

from intermodal.errors import InvalidValue
from intermodal.evaluation import Array
from intermodal.evaluation.features import FeatureFigures
from intermodal.media.spectrogram import frame_count, mel_filters, stft

_WINDOW, _SIGMA = 11, 1.5  # of SSIM, in pixels
_K1, _K2 = 0.01, 0.03  # of SSIM
_PLANES = 8  # whose structure is compared at once
_TINY = 1e-10  # in the norm of a feature vector, as published
_FLOOR = 1e-10  # power added before a logarithm: 100 dB below a full-scale sine
_CEPSTRA = 13  # of the mel-cepstral distortion, the level left out


def picture_fidelity(
    made: Num[Array, "N C *grid"], wanted: Num[Array, "N C *grid"], data_range: float
) -> dict[str, float]:
    """Returns ``mean_squared_error``, ``psnr``, ``ssim``, each the mean over the items, and ``count``.

    Args:
        made: pictures or clips.
        wanted: what they should be.
        data_range: the largest value possible less the smallest: 255 for bytes, 1 for values from 0 to 1.

    Raises:
        InvalidValue: see ``psnr`` and ``ssim``.
    """
    a, b = _pair(made, wanted)
    return {
        "mean_squared_error": float(np.square(a - b).mean()),
        "psnr": float(psnr(made, wanted, data_range).mean()),
        "ssim": float(ssim(made, wanted, data_range).mean()),
        "count": float(len(a)),
    }


def psnr(made: Num[Array, "N C *grid"], wanted: Num[Array, "N C *grid"], data_range: float) -> Float[np.ndarray, " N"]:
    """Returns the peak signal-to-noise ratio of each item in dB; infinite for an exact copy, and so is a mean with one.

    Args:
        made: pictures or clips.
        wanted: what they should be.
        data_range: the largest value possible less the smallest.

    Raises:
        InvalidValue: nothing to compare, values that are not finite, or a range of 0 or less.
    """
    a, b = _pair(made, wanted)
    _check_range(data_range)
    errors = np.square(a - b).reshape(len(a), -1).mean(axis=1)
    with np.errstate(divide="ignore"):
        ratio: NDArray[np.float64] = 10.0 * np.log10(data_range**2 / errors)
    return ratio


def ssim(made: Num[Array, "N C *grid"], wanted: Num[Array, "N C *grid"], data_range: float) -> Float[np.ndarray, " N"]:
    """Returns the structural similarity of each item, -1 to 1 for an exact copy; mean over places, channels, frames.

    Args:
        made: pictures or clips, at least 11 pixels high and wide.
        wanted: what they should be.
        data_range: the largest value possible less the smallest.

    Raises:
        InvalidValue: nothing to compare, pictures that are too small, values that are not finite, or a range of 0 or
            less.
    """
    a, b = _pair(made, wanted)
    _check_range(data_range)
    if a.ndim not in (4, 5) or min(a.shape[-2:]) < _WINDOW:
        raise InvalidValue(
            f"media of the shape {a.shape}; structural similarity takes pictures (N, C, H, W) or clips (N, C, F, H, W) "
            f"of at least {_WINDOW} x {_WINDOW} pixels"
        )
    planes = [torch.from_numpy(x.reshape(-1, *x.shape[-2:])) for x in (a, b)]
    values = [_similarity(x, y, data_range) for x, y in zip(*(torch.split(p, _PLANES) for p in planes), strict=True)]
    result: NDArray[np.float64] = torch.cat(values).numpy().reshape(len(a), -1).mean(axis=1)
    return result


def _similarity(
    a: Float[torch.Tensor, "P H W"], b: Float[torch.Tensor, "P H W"], data_range: float
) -> Float[torch.Tensor, " P"]:
    """Returns the mean structural similarity of each pair of planes, over all places where the window fits."""
    mean_a, mean_b, square_a, square_b, product = _smooth(torch.stack([a, b, a * a, b * b, a * b]))
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    together = mean_a * mean_b
    above = (2 * together + c1) * (2 * (product - together) + c2)
    squares = mean_a.square() + mean_b.square()
    below = (squares + c1) * (square_a + square_b - squares + c2)
    result: torch.Tensor = (above / below).mean(dim=(1, 2))
    return result


def _smooth(planes: Float[torch.Tensor, "5 P H W"]) -> Float[torch.Tensor, "5 P h w"]:
    """Returns the Gaussian mean around each place where the window fits.

    Added up shift by shift: in double precision that is many times faster than torch's convolution.
    """
    weights = [math.exp(-((k - _WINDOW // 2) ** 2) / (2 * _SIGMA**2)) for k in range(_WINDOW)]
    for axis in (2, 3):
        size = planes.shape[axis] - _WINDOW + 1
        total = torch.zeros_like(planes.narrow(axis, 0, size))
        for k, weight in enumerate(weights):
            total.add_(planes.narrow(axis, k, size), alpha=weight / sum(weights))
        planes = total
    return planes


def perceptual_distance(
    made: Sequence[Num[Array, "N _ ..."]], wanted: Sequence[Num[Array, "N _ ..."]], network: str
) -> FeatureFigures:
    """Returns ``perceptual_distance``, the mean of ``perceptual_distances``, with the network beside it.

    Raises:
        InvalidValue: see ``perceptual_distances``.
    """
    values = perceptual_distances(made, wanted)
    width = sum(int(np.shape(layer)[1]) for layer in made)
    figures = {"perceptual_distance": float(values.mean())}
    return FeatureFigures(figures, network, width, len(values), len(values))


def perceptual_distances(
    made: Sequence[Num[Array, "N _ ..."]], wanted: Sequence[Num[Array, "N _ ..."]]
) -> Float[np.ndarray, " N"]:
    """Returns how far the features of each item are from those wanted: 0 for a copy, at most 4 per layer.

    At every place the features of a layer are scaled to unit length; their squared difference is averaged over the
    places and added up over the layers, all alike.

    Args:
        made: feature maps ``(N, channels, *places)`` of some layers of one network.
        wanted: the same layers of the items wanted.

    Raises:
        InvalidValue: no layers, other numbers of them, other shapes, or values that are not finite.
    """
    if not made or len(made) != len(wanted):
        raise InvalidValue(
            f"{len(made)} and {len(wanted)} layers of features; give the same layers for both, at least one"
        )
    total = np.zeros(len(made[0]))
    for one, other in zip(made, wanted, strict=True):
        a, b = _pair(one, other)
        if len(a) != len(total):
            raise InvalidValue(
                f"a layer has features of {len(a)} items, the first one of {len(total)}; give all of each"
            )
        a, b = (x / (np.sqrt(np.square(x).sum(axis=1, keepdims=True)) + _TINY) for x in (a, b))
        total += np.square(a - b).sum(axis=1).reshape(len(a), -1).mean(axis=1)
    return total


def sound_fidelity(
    made: Float[Array, "N C S"],
    wanted: Float[Array, "N C S"],
    sample_rate_hz: int,
    window_s: float = 0.032,
    mels: int = 64,
) -> dict[str, float]:
    """Returns ``log_spectral_distance``, ``mel_distance``, ``mel_cepstral_distortion`` (all dB) and ``count``.

    Means over items, channels and frames, of which one starts every quarter window. 0 for a copy; phases do not matter.
    Cut or pad both to one length first: a sound that starts later counts as another one.

    Args:
        made: sounds in [-1, 1].
        wanted: what they should be.
        sample_rate_hz: samples per second.
        window_s: length of a frame in seconds.
        mels: bands of the mel figures, at least 14.

    Raises:
        InvalidValue: nothing to compare, values that are not finite, a window of no length, or too many or few mels.
    """
    a, b = _pair(made, wanted)
    window = 4 * round(sample_rate_hz * window_s / 4)
    if window < 4 or mels <= _CEPSTRA:
        raise InvalidValue(
            f"window_s is {window_s} at {sample_rate_hz} Hz and mels {mels}; give a window of at least 4 samples and "
            f"at least {_CEPSTRA + 1} mels"
        )
    filters = mel_filters(sample_rate_hz, window, mels).double()
    powers = [_power(x.reshape(-1, x.shape[-1]), window) for x in (a, b)]
    bands = [filters @ power.transpose(1, 2) for power in powers]
    decibels = [10.0 * torch.log10(x + _FLOOR) for x in (*powers, *bands)]
    amplitudes = [0.5 * torch.log(x + _FLOOR).numpy() for x in bands]
    return {
        "log_spectral_distance": float((decibels[0] - decibels[1]).square().mean(dim=2).sqrt().mean()),
        "mel_distance": float((decibels[2] - decibels[3]).square().mean(dim=1).sqrt().mean()),
        "mel_cepstral_distortion": float(mel_cepstral_distortions(*amplitudes).mean()),
        "count": float(len(a)),
    }


def _power(samples: NDArray[np.float64], window: int) -> Float[torch.Tensor, "N T bins"]:
    """Returns the power spectra of the frames, 1 for a full-scale sine at its frequency."""
    hop = window // 4
    spectra = stft(torch.from_numpy(samples), window, hop, frame_count(samples.shape[1], hop))
    return (spectra.abs() * (4.0 / window)).square()


def mel_cepstral_distortions(made: Float[Array, "N M T"], wanted: Float[Array, "N M T"]) -> Float[np.ndarray, " N"]:
    """Returns the mel-cepstral distortion of each item in dB, mean over frames; a louder copy has 0.

    Args:
        made: natural logarithms of mel amplitudes, M bands by T frames.
        wanted: what they should be.

    Raises:
        InvalidValue: nothing to compare, fewer than 14 bands, or values that are not finite.
    """
    a, b = _pair(made, wanted)
    bands = a.shape[1]
    if bands <= _CEPSTRA:
        raise InvalidValue(f"{bands} mel bands; {_CEPSTRA} cepstra beside the level need at least {_CEPSTRA + 1}")
    waves = np.cos(math.pi * np.outer(np.arange(1, _CEPSTRA + 1), np.arange(bands) + 0.5) / bands) / bands
    cepstra = waves @ (a - b)
    per_frame = 10.0 / math.log(10.0) * np.sqrt(2.0 * np.square(cepstra).sum(axis=1))
    distortion: NDArray[np.float64] = per_frame.mean(axis=1)
    return distortion


def series_fidelity(made: Num[Array, "N C S"], wanted: Num[Array, "N C S"]) -> dict[str, float]:
    """Returns ``normalised_error``, ``channels`` (those that vary, which it is the mean over) and ``count``.

    Of each channel it is the root of the mean squared error by the standard deviation of what was wanted, over all
    items and times: 0 for a copy, 1 for the best constant. A channel that never varies has none and is left out.

    Raises:
        InvalidValue: nothing to compare, values that are not finite, or no channel that varies.
    """
    a, b = _pair(made, wanted)
    spread = b.std(axis=(0, 2))
    varying = spread > 1e-12 * np.abs(b).max()
    if not varying.any():
        raise InvalidValue(
            f"none of the {len(spread)} channels varies over what was wanted; there is no scale for errors"
        )
    errors = np.sqrt(np.square(a - b).mean(axis=(0, 2)))[varying] / spread[varying]
    return {"normalised_error": float(errors.mean()), "channels": float(varying.sum()), "count": float(len(a))}


def _pair(made: Array, wanted: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns both in double precision, checked."""
    a, b = np.asarray(made, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape or not a.size:
        raise InvalidValue(f"the made have the shape {a.shape} and the wanted {b.shape}; give both the same, not empty")
    if not np.isfinite(a).all() or not np.isfinite(b).all():
        raise InvalidValue("some values are not finite; a model that gives such cannot be compared")
    return a, b


def _check_range(data_range: float) -> None:
    if not 0.0 < data_range < math.inf:
        raise InvalidValue(f"data_range is {data_range}; give 255 for bytes, 1 for values from 0 to 1")
