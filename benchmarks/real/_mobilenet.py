"""A frozen picture encoder for measurements: MobileNet v2 as TensorFlow Lite file, asked for more than its last vector.

The file names one output; the others that are read here are added to a copy of it in memory, so that it runs as fast
as ever (keeping all tensors instead turns the fast kernels off). Needs the packages ai-edge-litert and flatbuffers.
"""

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

WEIGHTS = "mobilenet_v2_1.0_224_quant.tflite"
SIZE, SIDE, CHANNELS = 224, 7, 1280
MAP = "MobilenetV2/Conv_1/Relu6"
LAST = ("MobilenetV2/expanded_conv_16/project/add_fold", "MobilenetV2/expanded_conv_16/depthwise/Relu6")
LOWER = tuple(f"MobilenetV2/expanded_conv_{n}/depthwise/Relu6" for n in (6, 9, 12))
"""Maps before the last one, of 320 and 960 channels, and lower ones, of 192, 384 and 576."""
GRID = 3
CROP = 0.625
CORNERS = ((0.0, 0.0), (1 - CROP, 0.0), (0.0, 1 - CROP), (1 - CROP, 1 - CROP), ((1 - CROP) / 2, (1 - CROP) / 2))
POOLED = 4
REVISION = "2"


class Network:
    """One copy of the network, for one thread."""

    def __init__(self, content: bytes, names: Sequence[str]) -> None:
        """Prepares it and finds its maps by the beginnings of their names."""
        from ai_edge_litert.interpreter import Interpreter

        self._network = Interpreter(model_content=content, num_threads=1)
        self._network.allocate_tensors()
        self._given = self._network.get_input_details()[0]["index"]
        told = self._network.get_output_details()
        self._maps = {name: next(one for one in told if one["name"].startswith(name)) for name in names}

    def __call__(self, picture: Any) -> dict[str, np.ndarray]:
        """Returns each map ``(H, W, C)`` of a Pillow picture of the network's size."""
        self._network.set_tensor(self._given, np.asarray(picture, np.uint8)[None])
        self._network.invoke()
        found = {}
        for name, one in self._maps.items():
            scale, zero = one["quantization"]
            found[name] = (self._network.get_tensor(one["index"])[0].astype(np.float32) - zero) * np.float32(scale)
        return found


class MobileNet:
    """Pictures to what the network says of them, all threads at once.

    Of a picture: the mean of the last map over the picture and its mirror image, the same over five crops, the means of
    the maps before, and of lower ones, filled up with zeros: ``POOLED`` rows of ``CHANNELS`` numbers. Its tokens are
    the means of ``GRID`` x ``GRID`` parts of the last map, and of each crop.
    """

    def __init__(self, weights: Path, threads: int) -> None:
        """Reads the weights; exits where what runs them is not installed."""
        try:
            import ai_edge_litert.interpreter  # noqa: F401 - tried here, used by each thread
            import flatbuffers  # noqa: F401
        except ImportError as error:
            sys.exit(f"the frozen encoder needs packages that are not installed ({error}): pip install ai-edge-litert")
        data = weights.read_bytes()
        self.revision = f"{hashlib.sha256(data).hexdigest()[:16]}-{REVISION}"
        names = (MAP, *LAST, *LOWER)
        content = opened(data, names)
        self._free: SimpleQueue[Network] = SimpleQueue()
        for _ in range(threads):
            self._free.put(Network(content, names))
        self._threads = ThreadPoolExecutor(threads)

    def __call__(self, items: Sequence[Any]) -> Any:
        """Returns a ``Said`` of pictures."""
        from intermodal.decoders.projection import Said

        both = list(self._threads.map(self._one, items))
        pooled, tokens = (torch.from_numpy(np.stack(part)) for part in zip(*both, strict=True))
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        return Said(tokens, mask, pooled.flatten(1))

    def _one(self, item: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of the whole, and the tokens, of one picture."""
        network = self._free.get()
        try:
            return said(network, item.pixels)
        finally:
            self._free.put(network)


def said(network: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ``(POOLED, CHANNELS)`` and ``(GRID * GRID + crops, CHANNELS)`` numbers of a picture of bytes."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    width, height = picture.size
    cubic, size = Image.Resampling.BICUBIC, (SIZE, SIZE)
    whole = picture.resize(size, cubic)
    maps, mirrored = network(whole), network(whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    boxes = [(x * width, y * height, (x + CROP) * width, (y + CROP) * height) for x, y in CORNERS]
    crops = np.stack([network(picture.resize(size, cubic, box=box))[MAP].mean((0, 1)) for box in boxes])
    last = maps[MAP]
    edges = np.linspace(0, SIDE, GRID + 1).round().astype(int)
    parts = [last[a:b, c:d].mean((0, 1)) for a, b in _spans(edges) for c, d in _spans(edges)]
    rows = [
        (last.mean((0, 1)) + mirrored[MAP].mean((0, 1))) / 2,
        crops.mean(0),
        _filled([maps[name].mean((0, 1)) for name in LAST]),
        _filled([maps[name].mean((0, 1)) for name in LOWER]),
    ]
    return np.stack(rows).astype(np.float32), np.concatenate((np.stack(parts), crops)).astype(np.float32)


def _spans(edges: np.ndarray) -> list[tuple[int, int]]:
    """Returns neighbouring edges, overlapping by one cell, so that no part is smaller than another by much."""
    return [(max(0, int(a) - (i > 0)), int(b)) for i, (a, b) in enumerate(pairwise(edges))]


def _filled(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns arrays one behind the other, filled up with zeros to ``CHANNELS``."""
    joined = np.concatenate(parts)
    return np.pad(joined, (0, CHANNELS - len(joined)))


def opened(data: bytes, names: Sequence[str]) -> bytes:
    """Returns a TensorFlow Lite file whose outputs are the tensors with these beginnings of names.

    Exits where one is missing.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    places = []
    for name in names:
        fits = [i for i, one in enumerate(graph.tensors) if one.name.decode().startswith(name) and len(one.shape) == 4]
        if len(fits) != 1:
            sys.exit(f"the network has {len(fits)} maps named {name}; expected one")
        places.append(fits[0])
    graph.outputs, model.signatureDefs = places, None
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
