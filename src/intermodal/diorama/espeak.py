"""The process that speaks: reads requests, writes clips. Run by its path, with the standard library alone.

    python -I -S espeak.py LIBRARY DATA   <  one JSON list [text, voice, words per minute, pitch] a line
                                          >  for each: its sample rate and its length as two int32, then int16 samples

The library keeps state from one clip to the next and seeds its noise from the clock. So every clip is spoken by a fork
of a process that has spoken nothing, with the seed set: a clip depends on its own request only. Where there is no fork,
the process speaks one clip and ends.
"""

import ctypes
import json
import os
import struct
import sys
from typing import Any, BinaryIO

_SYNCHRONOUS, _PLAIN_TEXT_UTF8 = 2, 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def check(name: str, code: int) -> None:
    """Raises RuntimeError if ``code``, which the function ``name`` returned, is an error."""
    if code != 0:
        raise RuntimeError(f"{name} failed with code {code}")


def start(library: str, data: str) -> tuple[Any, int]:
    """Returns the initialised library and its sample rate in Hz."""
    espeak = ctypes.CDLL(library)
    rate_hz = int(espeak.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), 0))
    if rate_hz <= 0:
        raise RuntimeError(f"espeak_Initialize failed with code {rate_hz} for the voices in {data}")
    return espeak, rate_hz


def speak(espeak: Any, text: str, voice: str, words_per_minute: int, pitch: int) -> bytes:
    """Returns int16 samples; the same for the same request if the process has spoken nothing before."""
    pieces: list[bytes] = []

    def keep(samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(keep)  # a name of its own: it must live as long as the library may call it
    espeak.espeak_SetSynthCallback(callback)
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
    check(f"espeak_SetVoiceByName({voice!r})", espeak.espeak_SetVoiceByName(voice.encode()))
    check("espeak_SetParameter(rate)", espeak.espeak_SetParameter(_RATE, words_per_minute, 0))
    check("espeak_SetParameter(pitch)", espeak.espeak_SetParameter(_PITCH, pitch, 0))
    said = text.encode() + b"\0"
    length, zero = ctypes.c_size_t(len(said)), ctypes.c_uint(0)
    check("espeak_Synth", espeak.espeak_Synth(said, length, zero, 1, zero, _PLAIN_TEXT_UTF8, None, None))
    check("espeak_Synchronize", espeak.espeak_Synchronize())
    return b"".join(pieces)


def _answer(espeak: Any, rate_hz: int, line: str, out: BinaryIO) -> None:
    """Speaks one request and writes the clip."""
    samples = speak(espeak, *json.loads(line))
    out.write(struct.pack("<ii", rate_hz, len(samples) // 2) + samples)
    out.flush()


def main(library: str, data: str) -> int:
    """Answers the requests on standard input; returns 0, or 1 if one could not be spoken."""
    espeak, rate_hz = start(library, data)
    out = sys.stdout.buffer
    for line in sys.stdin:
        if not hasattr(os, "fork"):
            _answer(espeak, rate_hz, line, out)
            return 0
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _answer(espeak, rate_hz, line, out)
                code = 0
            except Exception as error:
                print(error, file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1] != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
