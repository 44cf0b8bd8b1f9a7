"""A codec: media of one field to a few ids each, and back.

    media ─ stem ─ blocks ─ codebook ─ blocks ─ grid decoder ─ media
                               │
                              ids (B, T, G): one position per patch, G ids each

Follows: van den Oord et al. 2017, arXiv 1711.00937 (ids in the middle of an autoencoder), stage one of DALL-E, Ramesh
et al. 2021, arXiv 2102.12092, and of VQGAN, Esser et al. 2020, arXiv 2012.09841. Changed: transformer blocks beside the
codebook, so that positions share what they know; cells that stand out weigh more than ground. Left out: adversarial and
perceptual losses. What of a medium is unpredictable (noise) is not reproduced: the loss has its mean.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from intermodal import catalog
from intermodal.decoders.grid import grid_decoder
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.block import Block
from intermodal.layers.positions import Positions
from intermodal.layers.stem import stem, widen
from intermodal.objectives.reconstruction import distance, prominence, slopes
from intermodal.tokenizers.codebook import Codebook, Quantized, usage
from intermodal.types import Batch, Grid, Item, Preprocessor

ONE_OF = ("image", "video", "audio", "timeseries")
"""Modalities of which a codec takes one field."""


@dataclass(frozen=True)
class Config:
    """All that is needed to build the system again.

    Attributes:
        name: of the field of the data that it reads and makes.
        preprocessor: of that field; its layout must be a grid, and one of its patches becomes one position.
        sizes: positions along each axis; 0 for the one axis without limit, if there is one.
        first: cells of the smallest patches per axis.
        channels: widths of the convolutions, from fine to coarse; empty for one product per patch.
        width: D of a position.
        depth: transformer blocks before the codebook, and as many after it.
        heads: of each block.
        codebook: which quantizer, of how many codes, and how many ids per position.
        offset: subtracted from the preprocessor's values; their mean, so that training need not find it.
        scale: what they are divided by afterwards; about twice their standard deviation.
        prominence: how much more a cell counts that stands out of its item.
        slopes: weight of the error of differences between neighbours.
    """

    name: str
    preprocessor: Preprocessor
    sizes: tuple[int, ...]
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    width: int = 128
    depth: int = 1
    heads: int = 4
    codebook: Codebook = field(default_factory=Codebook)
    offset: float = 0.0
    scale: float = 1.0
    prominence: float = 4.0
    slopes: float = 0.5

    def __post_init__(self) -> None:
        """Checks every field that a user can get wrong."""
        layout = self.preprocessor.layout
        if not isinstance(layout, Grid):
            raise Unsupported(
                f"a codec takes media on a grid; the field {self.name!r} holds text, which is ids already"
            )
        if len(self.sizes) != layout.rank or self.sizes.count(0) > 1:
            raise InvalidValue(
                f"sizes are {self.sizes}; give the positions along each of {layout.rank} axes, 0 for one without limit"
            )
        if self.scale <= 0:
            raise InvalidValue(f"scale of a codec is {self.scale}; give a number above 0")
        for name, least in (("width", 1), ("depth", 0), ("heads", 1), ("prominence", 0), ("slopes", 0)):
            if getattr(self, name) < least:
                raise InvalidValue(f"{name} of a codec is {getattr(self, name)}; give at least {least}")


class Codec(nn.Module):
    """An autoencoder with a codebook in the middle. Trains, Codes."""

    def __init__(self, config: Config) -> None:
        """Builds all parts."""
        super().__init__()
        self.config = config
        self.preprocessors = {config.name: config.preprocessor}
        layout, width = config.preprocessor.layout, config.width
        self.stem = stem(layout, width, config.first, config.channels)
        self.places_in, self.places_out = (Positions(width, config.sizes) for _ in range(2))
        self.blocks_in, self.blocks_out = (
            nn.ModuleList(Block(width, config.heads, 2 * width) for _ in range(config.depth)) for _ in range(2)
        )
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.codebook = config.codebook.build(width)
        self._recent = torch.zeros(0, config.codebook.groups, dtype=torch.int64)
        self.decoder = grid_decoder(layout, width, config.first, config.channels)  # type: ignore[arg-type]

    @property
    def codes(self) -> int:
        """Ids are in ``range(codes)``."""
        return self.config.codebook.codes

    @property
    def groups(self) -> int:
        """Ids per position."""
        return self.config.codebook.groups

    @property
    def positions(self) -> int:
        """T of every item, or 0 where an axis has no limit."""
        return math.prod(self.config.sizes)

    def grid(self, positions: int) -> tuple[int, ...]:
        """Returns the grid that so many positions fill, in row-major order.

        Raises:
            InvalidValue: they fill none.
        """
        known = math.prod(n for n in self.config.sizes if n)
        found = tuple(n or positions // known for n in self.config.sizes)
        if math.prod(found) != positions:
            raise InvalidValue(f"{positions} positions fill no grid of {self.config.sizes} (0 is any number)")
        return found

    def _centred(self, values: Float[Tensor, "B C ..."]) -> Float[Tensor, "B C ..."]:
        return (values - self.config.offset) / self.config.scale

    # ---- Trains

    def quantized(self, batch: Batch) -> Quantized:
        """Returns ids, and what the decoder is to make of them."""
        x, grid = self.stem(Batch(self._centred(batch.values), batch.mask))
        mask = None if bool(batch.mask.all()) else batch.mask
        x = x + self.places_in(grid)
        for block in self.blocks_in:
            x = block(x, mask)
        found: Quantized = self.codebook(self.norm_in(x), mask)
        return found

    def painted(self, tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B C ..."]:
        """Returns the media grid that quantized vectors stand for, in centred values."""
        grid = self.grid(tokens.shape[1])
        x = tokens + self.places_out(grid)
        for block in self.blocks_out:
            x = block(x, None if bool(mask.all()) else mask)
        values: Tensor = self.decoder(self.norm_out(x), mask, grid)
        return values.float()

    def losses(self, batch: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Returns the error of what comes back, of its slopes, and the codebook's own loss where it has one."""
        part = batch[self.config.name]
        found = self.quantized(part)
        self._recent = found.ids[part.mask].detach()
        guess, truth = self.painted(found.values, part.mask), self._centred(part.values)
        real = widen(part.mask.reshape(len(part), *self.grid(part.mask.shape[1])), truth.shape[2:]).to(truth)
        weights = prominence(truth, real, self.config.prominence)
        result = {"reconstruction": distance(guess, truth, weights)}
        if self.config.slopes:
            result["slopes"] = self.config.slopes * slopes(guess, truth, weights)
        if self.config.codebook.quantizer != "fsq":
            result["codebook"] = found.loss
        return result

    def codebook_use(self) -> dict[str, float]:
        """Returns ``share_used`` and ``perplexity`` of the codes in the last batch that was learnt from."""
        return usage(self._recent, self.codes)

    # ---- Codes

    @torch.no_grad()
    def encode(self, batch: Batch) -> Batch:
        """Returns the ids ``(B, T, G)`` of a batch, and where they are real; those elsewhere are 0."""
        ids = self.quantized(batch).ids
        return Batch(ids * batch.mask[..., None], batch.mask)

    @torch.no_grad()
    def decode(self, ids: Int[Tensor, "B T G"], mask: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B C ..."]:
        """Returns the media grid that ids stand for; all of them are real where no mask is given.

        Raises:
            InvalidValue: their number fills no grid of this codec.
        """
        real = torch.ones(ids.shape[:2], dtype=torch.bool, device=ids.device) if mask is None else mask
        values = self.painted(self.codebook.values(ids), real)  # type: ignore[operator]
        return values * self.config.scale + self.config.offset

    def tokens(self, items: Sequence[Item], batch_size: int = 64) -> Batch:
        """Returns the ids ``(N, T, G)`` of items, padded to the longest, and where they are real.

        Raises:
            Unsupported: an item is of another modality.
        """
        own = self.config.preprocessor.modality
        for item in items:
            if item.modality != own:
                raise Unsupported(f"this codec is of {own}; it has no ids for {item.modality}")
        device, training = self.norm_in.weight.device, self.training
        self.eval()
        parts = [
            self.encode(self.config.preprocessor(items[i : i + batch_size]).to(device))
            for i in range(0, len(items), batch_size)
        ]
        self.train(training)
        longest = max(part.mask.shape[1] for part in parts)
        ids = torch.cat([nn.functional.pad(p.values, (0, 0, 0, longest - p.mask.shape[1])) for p in parts])
        return Batch(ids, torch.cat([nn.functional.pad(p.mask, (0, longest - p.mask.shape[1])) for p in parts]))

    def items(
        self, ids: Int[Tensor, "N T G"], mask: Bool[Tensor, "N T"] | None = None, batch_size: int = 64
    ) -> list[Item]:
        """Returns the item that each row of ids stands for, as long as its mask says."""
        real = torch.ones(ids.shape[:2], dtype=torch.bool, device=ids.device) if mask is None else mask
        training = self.training
        self.eval()
        result: list[Item] = []
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            result += self._inverted(self.decode(ids[rows], real[rows]).cpu(), real[rows].cpu())
        self.train(training)
        return result

    def _inverted(self, values: Float[Tensor, "B C ..."], mask: Bool[Tensor, "B T"]) -> list[Item]:
        """Returns the items of grids, each cut to the part that is real, rows of one size together."""
        cells = widen(mask.reshape(len(mask), *self.grid(mask.shape[1])), values.shape[2:])
        sizes: dict[tuple[int, ...], list[int]] = {}
        for row, real in enumerate(cells):
            if not bool(real.any()):
                raise InvalidValue(f"row {row} has no real position: there is no item to be made of it; leave it out")
            sizes.setdefault(tuple(int(i.max()) + 1 for i in real.nonzero(as_tuple=True)), []).append(row)
        made: dict[int, Item] = {}
        for size, rows in sizes.items():
            window = values[rows][(slice(None), slice(None), *(slice(0, n) for n in size))]
            made |= zip(rows, self.config.preprocessor.invert(window), strict=True)
        return [made[row] for row in range(len(values))]


def build(config: Config) -> Codec:
    """Returns the system that ``config`` describes, with fresh weights."""
    return Codec(config)


# ---- Sizes


def _tiny(name: str, modality: str) -> Config:
    """Returns a codec for a laptop: less than a million weights."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "image":
        shape = make(height=64, width=64, patch=16)
        return Config(name, shape, (4, 4), (2, 2), (32, 64, 96), codebook=Codebook(groups=2))
    if modality == "video":
        clip = make(frames=8, height=64, width=64, patch=(8, 16, 16))
        return Config(name, clip, (1, 4, 4), (8, 2, 2), (48, 64, 96), codebook=Codebook(groups=3))
    if modality == "audio":
        sound = make(channels=2, mels=96, window=1024, hop=320, patch_frames=4)
        return Config(name, sound, (1, 0), (2, 1), (32, 64, 96), codebook=Codebook(groups=3))
    return Config(name, make(channels=9, patch=16), (0,), depth=2, codebook=Codebook(groups=3), prominence=0.0)


def _paper(name: str, modality: str) -> Config:
    """Returns the sizes of DALL-E's dVAE (arXiv 2102.12092, appendix A): 1,024 ids of 8,192 codes for 256 x 256."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    numbers: dict[str, Any] = {"width": 512, "depth": 2, "heads": 8, "codebook": Codebook("gumbel", (8, 8, 8, 16))}
    if modality == "image":
        return Config(name, make(height=256, width=256, patch=8), (32, 32), (2, 2), (128, 256, 512), **numbers)
    if modality == "video":
        clip = make(frames=16, height=128, width=128, patch=(4, 8, 8))
        return Config(name, clip, (4, 16, 16), (4, 2, 2), (128, 256, 512), **numbers)
    if modality == "audio":
        sound = make(channels=1, mels=96, window=1024, hop=320, patch_frames=4)
        return Config(name, sound, (1, 0), (2, 1), (128, 256, 512), **numbers)
    return Config(name, make(channels=9, patch=8), (0,), (2,), (128, 256), prominence=0.0, **numbers)


SIZES: dict[str, Callable[[str, str], Config]] = {"tiny": _tiny, "paper": _paper}
"""Size -> (field, modality) -> config. ``tiny`` trains on a laptop; ``paper`` is the published one."""


def sized(size: str, fields: Mapping[str, str], tokenizer: Any = None) -> Config:
    """Returns the config of one size for data of one such field (field name -> modality); it needs no tokenizer.

    Raises:
        UnknownName: there is no such size.
        Unsupported: there is more than one field, none, or one of text.
    """
    if size not in SIZES:
        raise UnknownName("size of codec", size, SIZES)
    if len(fields) != 1 or not set(fields.values()) <= set(ONE_OF):
        usable = [name for name, modality in fields.items() if modality in ONE_OF]
        raise Unsupported(
            f"a codec is of one field of {', '.join(ONE_OF)}, not of {', '.join(fields) or 'none'}; "
            f"choose one with --fields: {', '.join(usable) or 'the data has none'}"
        )
    return SIZES[size](*next(iter(fields.items())))
