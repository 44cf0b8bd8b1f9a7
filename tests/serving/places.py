"""Servers for tests: models with random weights, asked in-process by the clients that people use."""

import dataclasses
import io
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import openai
import torch

from intermodal.diorama.source import Diorama
from intermodal.modalities.text import TextPreprocessor
from intermodal.serving.app import build
from intermodal.serving.keys import Key
from intermodal.serving.settings import Settings
from intermodal.systems import codec, unified
from intermodal.tokenizers.codebook import Codebook
from intermodal.tokenizers.word import WordTokenizer

URL = "http://127.0.0.1:8000"
QUICK = Settings(wait_s=0.0, threads=1)


def small(**more: str) -> unified.Unified:
    """Returns a model of text, pictures, sounds and questions about pictures that has learnt nothing."""
    torch.manual_seed(0)
    fields = {"text": "text", "image": "image", "audio": "audio", "question": "text", "answer": "text", **more}
    tokenizer = WordTokenizer(words=tuple(Diorama.vocabulary))
    whole = unified.sized("tiny", fields, tokenizer)
    book = Codebook(levels=(4, 4), groups=2)
    made = {}
    for kind, modality in {**{m: m for m in ("image", "audio", "video")}, "speech": "audio"}.items():
        if kind in whole.codecs:
            one = codec.sized("tiny", {kind: modality})
            made[kind] = dataclasses.replace(one, width=32, codebook=book, channels=tuple(8 for _ in one.channels))
    text = TextPreprocessor(tokenizer, 12)
    reader = dataclasses.replace(whole.reader, width=16)
    changed = dataclasses.replace(whole, text=text, reader=reader, codecs=made, width=32, depth=2, heads=2, longest=6)
    return unified.build(changed).eval()


def server(
    models: Mapping[str, Any], settings: Settings = QUICK, library: Any = None, keys: tuple[Key, ...] = ()
) -> Any:
    """Returns an application."""
    return build(settings, models, library, keys)


def plain(app: Any, **options: Any) -> httpx2.AsyncClient:
    """Returns an HTTP client of an application in this process."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=URL, **options)


def client(app: Any, key: str = "none") -> openai.AsyncOpenAI:
    """Returns the hosted API's own client, talking to an application in this process."""
    return openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=key, http_client=plain(app), max_retries=0)


def picture(side: int = 64, colour: tuple[int, int, int] = (200, 30, 30), kind: str = "PNG") -> bytes:
    """Returns a picture file."""
    from PIL import Image

    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[side // 4 : side // 2, side // 4 : side // 2] = colour
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tone(seconds: float = 1.0, rate: int = 16_000) -> bytes:
    """Returns a wav file."""
    from intermodal.media.sound import encode_sound

    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    return encode_sound(wave[None].astype(np.float32), rate, "wav", sixteen_bit=True)


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Returns a context with the address of an application that listens on a real socket of this machine."""
    from intermodal.serving.wire import server

    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    running = server(app, 1.0)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()
        place.close()
