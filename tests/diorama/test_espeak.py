"""The process that speaks: every clip depends on its own request, and errors come out with their reason."""

import importlib.util
import json
import struct
import subprocess
import sys

import pytest

from intermodal.diorama import espeak

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the package espeakng-loader"
)


def _run(*requests: list[object]) -> subprocess.CompletedProcess[bytes]:
    import espeakng_loader

    paths = (espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    lines = "".join(json.dumps(request) + "\n" for request in requests).encode()
    command = [sys.executable, "-I", "-S", espeak.__file__, *paths]
    return subprocess.run(command, input=lines, capture_output=True, timeout=60, check=False)


def _split(out: bytes) -> list[bytes]:
    clips = []
    while out:
        rate_hz, count = struct.unpack_from("<ii", out)
        assert rate_hz == 22050
        clips.append(out[8 : 8 + 2 * count])
        out = out[8 + 2 * count :]
    return clips


def test_the_same_request_gives_the_same_clip_after_any_other():
    star, disc = ["a star", "en-us+m3", 170, 50], ["a big disc", "en-gb-x-rp+f2", 150, 40]
    done = _run(star, disc, star, disc, disc)
    assert done.returncode == 0
    a, b, c, d, e = _split(done.stdout)
    assert a == c
    assert b == d == e
    assert a != b
    assert len(a) > 10_000


def test_speed_and_pitch_are_heard():
    slow, fast, high = _split(
        _run(["a star", "en-us", 150, 50], ["a star", "en-us", 200, 50], ["a star", "en-us", 150, 65]).stdout
    )
    assert len(slow) > len(fast)
    assert slow != high


def test_an_unknown_voice_is_an_error_and_no_other_voice():
    done = _run(["a star", "elvish", 170, 50], ["a star", "en-us", 170, 50])
    assert done.returncode == 1
    assert b"espeak_SetVoiceByName('elvish') failed" in done.stderr
    assert done.stdout == b""


def test_a_bad_return_code_raises():
    espeak.check("fine", 0)
    with pytest.raises(RuntimeError, match="thing failed with code 2"):
        espeak.check("thing", 2)
