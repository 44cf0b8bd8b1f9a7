"""Speech: sentences spoken by a synthesiser with many voices, and a recogniser that judges what was said.

The synthesiser is espeak-ng, through the optional package ``espeakng-loader``. It speaks in a process of its own (see
``espeak.py``), which makes a clip a function of its text and voice alone, and clips are kept in memory and on disk.

The judge is pocketsphinx with the closed grammar of ``sentences``. It is an independent ear and no exact reader: it
mishears some sentences, more of them with some voices than with others.
"""

import hashlib
import importlib.util
import json
import os
import struct
import subprocess
import sys
import wave
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike, NDArray

from intermodal.diorama import espeak
from intermodal.diorama.draws import uniform
from intermodal.diorama.scene import Scene
from intermodal.diorama.sentences import jsgf, read_text
from intermodal.errors import InvalidValue, MissingExtra, UnreadableMedia

SPEECH_RATE_HZ = 16000
ACCENTS = ("en-us", "en-us", "en-us", "en-gb-x-rp")
VARIANTS = (*(f"m{i}" for i in range(1, 8)), "f1", "f2", "f5", "adam", "edward", "john", "paul", "steph")
"""Voices of espeak that an independent recogniser understands; many others are hard to make out."""
UNHEARD = {"dev": ("m6", "f5"), "test": ("m3", "f2", "john", "steph"), "compositional": ("m3", "f2", "john", "steph")}
"""The voices that each of these splits of diorama speaks with alone; training speaks with the rest and never hears
them, and choices made on dev are not made on the voices of test."""
_SLOWEST, _FASTEST = 150, 200  # words per minute, in steps of ten
_LOWEST, _HIGHEST = 35, 65  # pitch on the scale of espeak, 0 to 99, in steps of five
_QUIETEST, _LOUDEST = 0.4, 0.9  # peak of a clip
_TOGETHER = 256  # clips spoken by one process
_TIMEOUT_S = 600
_KEPT = 256  # clips in memory
_PAUSE = 4800  # samples of silence that the recogniser gets before and after; without them it loses the last word
_FLOOR = 400.0  # noise that it gets under the sound, of 32767; without it the pauses of a synthesiser confuse it
_FORMAT = 1  # of a clip on disk; part of its key

_Clip = NDArray[np.int16]
_Request = tuple[str, str, int, int]
_memory: OrderedDict[str, _Clip] = OrderedDict()


def available() -> bool:
    """Returns whether the synthesiser is installed."""
    return importlib.util.find_spec("espeakng_loader") is not None


def variants_of(split: str) -> tuple[str, ...]:
    """Returns the voices that a split of diorama speaks with; see ``UNHEARD``."""
    kept_back = {name for names in UNHEARD.values() for name in names}
    return UNHEARD.get(split, tuple(name for name in VARIANTS if name not in kept_back))


def render_speech(
    texts: Sequence[str], index: ArrayLike, seed: int = 0, variants: Sequence[str] = VARIANTS
) -> list[Float32[np.ndarray, "1 S"]]:
    """Returns each text spoken: one side in [-1, 1] at ``SPEECH_RATE_HZ``, as long as the sentence takes.

    Voice, speed, pitch and loudness depend on ``seed`` and each index.

    Args:
        texts: N texts.
        index: N whole numbers, 0 or more.
        seed: another seed speaks the same texts otherwise.
        variants: the voices to choose from, some of ``VARIANTS``, each with any of ``ACCENTS``.

    Raises:
        InvalidValue: a text has nothing to say, or the synthesiser refuses it.
        MissingExtra: the synthesiser is not installed.
    """
    if not available():
        raise MissingExtra("espeakng-loader", "speech", "speaking sentences")
    u = uniform(seed, "speech", index, 5)
    if len(u) != len(texts):
        raise InvalidValue(f"{len(texts)} texts came with {len(u)} indices; give one index for each text")
    for text in texts:
        if not any(c.isalnum() for c in text):
            raise InvalidValue(f"there is nothing to say in {text[:80]!r}; give a text with words in it")
    requests = []
    for text, row in zip(texts, u.tolist(), strict=True):
        voice = f"{ACCENTS[int(row[0] * len(ACCENTS))]}+{variants[int(row[1] * len(variants))]}"
        speed = _SLOWEST + 10 * int(row[2] * ((_FASTEST - _SLOWEST) // 10 + 1))
        pitch = _LOWEST + 5 * int(row[3] * ((_HIGHEST - _LOWEST) // 5 + 1))
        requests.append((text, voice, speed, pitch))
    peaks = (_QUIETEST + (_LOUDEST - _QUIETEST) * u[:, 4]).astype(np.float32)
    return [clip[None] * (peak / np.float32(32767)) for clip, peak in zip(_clips(requests), peaks, strict=True)]


def _clips(requests: list[_Request]) -> list[_Clip]:
    """Returns the clip of each request, full scale at ``SPEECH_RATE_HZ``: from memory, from disk, or spoken now."""
    keys = [_key(request) for request in requests]
    found: dict[str, _Clip] = {}
    missing: dict[str, _Request] = {}
    for key, request in zip(keys, requests, strict=True):
        clip = _memory.get(key)
        clip = _load(key) if clip is None else clip
        if clip is None:
            missing[key] = request
        else:
            found[key] = clip
    waiting = list(missing.items())
    for first in range(0, len(waiting), _TOGETHER):
        part = waiting[first : first + _TOGETHER]
        for (key, _), (rate_hz, samples) in zip(part, _speak([request for _, request in part]), strict=True):
            found[key] = _full_scale(resample(samples.astype(np.float64), rate_hz, SPEECH_RATE_HZ))
            _save(key, found[key])
    for key in keys:
        _memory[key] = found[key]
        _memory.move_to_end(key)
    while len(_memory) > _KEPT:
        _memory.popitem(last=False)
    return [found[key] for key in keys]


@cache
def _version() -> str:
    """Returns the version of the synthesiser's package."""
    return metadata.version("espeakng-loader")


def _key(request: _Request) -> str:
    """Returns the name of a clip: a hash of all that it depends on."""
    told = json.dumps([_FORMAT, _version(), SPEECH_RATE_HZ, *request])
    return hashlib.blake2b(told.encode(), digest_size=20).hexdigest()


def _path(key: str) -> Path:
    """Returns where a clip lies on disk."""
    from intermodal import runtime  # it imports torch, which nothing else here needs

    return runtime.cache_folder() / "speech" / key[:2] / f"{key}.wav"


def _load(key: str) -> _Clip | None:
    """Returns a clip from disk, or None where there is none or it is damaged (it is then spoken again)."""
    try:
        with wave.open(str(_path(key)), "rb") as file:
            count = file.getnframes()
            data = file.readframes(count)
            good = len(data) == 2 * count and file.getframerate() == SPEECH_RATE_HZ
    except (FileNotFoundError, EOFError, wave.Error):
        return None
    return np.frombuffer(data, np.int16) if good else None


def _save(key: str, clip: _Clip) -> None:
    """Writes a clip to disk: beside its place first, then renamed, so that it is whole or absent."""
    path = _path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    with wave.open(str(beside), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPEECH_RATE_HZ)
        file.writeframes(clip.tobytes())
    beside.replace(path)


def _speak(requests: list[_Request]) -> list[tuple[int, _Clip]]:
    """Returns sample rate and samples of each request, spoken in a process of its own."""
    import espeakng_loader

    command = [
        sys.executable,
        "-I",
        "-S",
        espeak.__file__,
        espeakng_loader.get_library_path(),
        espeakng_loader.get_data_path(),
    ]
    clips: list[tuple[int, _Clip]] = []
    while len(clips) < len(requests):
        lines = "".join(json.dumps(request) + "\n" for request in requests[len(clips) :])
        done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            reason = done.stderr.decode(errors="replace").strip()[-300:]
            raise InvalidValue(
                f"the synthesiser cannot speak the texts from {requests[len(clips)][0][:80]!r} on: {reason}"
            )
        at = 0
        while at < len(done.stdout):
            rate_hz, count = struct.unpack_from("<ii", done.stdout, at)
            clips.append((rate_hz, np.frombuffer(done.stdout, np.int16, count, at + 8)))
            at += 8 + 2 * count
    return clips


def _full_scale(samples: NDArray[np.float64]) -> _Clip:
    """Returns the samples as loud as they can be."""
    return np.rint(samples * (32767 / max(float(np.abs(samples).max(initial=0.0)), 1.0))).astype(np.int16)


def resample(samples: NDArray[np.float64], rate_hz: int, to_hz: int) -> NDArray[np.float64]:
    """Returns the samples at another rate, by cutting or widening their spectrum; they should begin and end quietly."""
    if rate_hz == to_hz:
        return samples
    common = int(np.gcd(rate_hz, to_hz))
    blocks = 16 * -(-samples.size // (16 * rate_hz // common))  # of 16, because such sizes transform fast
    size, to_size = (blocks * hz // common for hz in (rate_hz, to_hz))
    spectrum = np.fft.rfft(samples, size)
    kept = np.zeros(to_size // 2 + 1, spectrum.dtype)
    shared = min(kept.size, spectrum.size)
    kept[:shared] = spectrum[:shared]
    resampled: NDArray[np.float64] = np.fft.irfft(kept, to_size) * (to_size / size)
    return resampled


@cache
def _recogniser() -> Any:
    """Returns the recogniser, which knows the sentences of diorama and no others."""
    if importlib.util.find_spec("pocketsphinx") is None:
        raise MissingExtra("pocketsphinx", "test", "recognising speech")
    from pocketsphinx import Decoder

    decoder = Decoder(lm=None, loglevel="FATAL", samprate=SPEECH_RATE_HZ)
    decoder.add_word("rhombus", "R AA M B AH S", True)
    decoder.add_jsgf_string("diorama", jsgf())
    decoder.activate_search("diorama")
    return decoder


def read_speech(samples: Float32[np.ndarray, "1 S"], rate_hz: int = SPEECH_RATE_HZ) -> Scene:
    """Returns the scene that a recogniser hears described; a judge of speech, not an exact reader.

    Args:
        samples: one side in [-1, 1].
        rate_hz: samples per second.

    Raises:
        MissingExtra: the recogniser is not installed.
        UnreadableMedia: it hears no sentence of diorama, or one that makes no scene.
    """
    decoder = _recogniser()
    if not samples.size or not np.isfinite(samples).all():
        raise UnreadableMedia(f"the sound has {samples.size} samples; give at least one, and finite ones only")
    clean = resample(samples[0].astype(np.float64), rate_hz, SPEECH_RATE_HZ)
    floor = uniform(0, "speech: floor", [0], clean.size + 2 * _PAUSE)[0] - 0.5
    sound = _full_scale(np.pad(clean / max(np.abs(clean).max(initial=0.0), 1e-6), _PAUSE) * 32767 + _FLOOR * floor)
    decoder.start_utt()
    decoder.process_raw(sound.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    if heard is None or not heard.hypstr:
        raise UnreadableMedia(
            f"no sentence of diorama is heard in these {samples.shape[1] / rate_hz:.1f} seconds of sound"
        )
    return read_text(heard.hypstr)
