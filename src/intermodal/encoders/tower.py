"""One tower: the preprocessor of a field and the encoder of what it gives, described by one record.

The record is what configs of every system hold and what is saved with the weights; ``encoder`` builds from it.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from intermodal import catalog
from intermodal.encoders.convolutional import ConvolutionalEncoder
from intermodal.encoders.recurrent import RecurrentEncoder
from intermodal.encoders.transformer import TransformerEncoder
from intermodal.errors import InvalidValue, UnknownName
from intermodal.layers.block import ACTIVATIONS, Block
from intermodal.layers.pooling import Pooling
from intermodal.layers.positions import Positions
from intermodal.layers.stem import stem
from intermodal.types import Preprocessor, Symbols

ENCODERS = ("transformer", "convolutional", "recurrent")


@dataclass(frozen=True)
class TowerConfig:
    """How one field is read.

    Attributes:
        preprocessor: items to batches; its layout decides the stem.
        encoder: one of ``ENCODERS``.
        width: D of its tokens.
        depth: transformer blocks, recurrent layers, or residual blocks per convolutional stage.
        heads: attention heads of a transformer.
        sizes: tokens along each axis of the token grid, 0 for an axis without limit (transformer only).
        first: cells of the first patches per axis; empty for one product per patch.
        channels: widths of the convolutions; empty for one product per patch.
        pooling: tokens to one vector: mean, first, last or attention.
        dropout: of each residual branch of a transformer.
        token_dropout: share of the tokens that a transformer leaves out while training.
        frozen: the encoder keeps its weights; only the head is trained.
        mlp_width: inner width of a transformer's perceptrons; 0 for four times ``width``.
        activation: of these perceptrons, gelu or quick_gelu.
        causal: each token of a transformer sees only itself and those before it.
        class_token: a learned token stands before all others (transformer only).
        norm_first: a transformer also normalises what enters its first block.
        per_cell: one learned position per cell of the grid instead of one per axis.
    """

    preprocessor: Preprocessor
    encoder: str = "transformer"
    width: int = 128
    depth: int = 2
    heads: int = 4
    sizes: tuple[int, ...] = (0,)
    first: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    pooling: str = "mean"
    dropout: float = 0.0
    token_dropout: float = 0.0
    frozen: bool = False
    mlp_width: int = 0
    activation: str = "gelu"
    causal: bool = False
    class_token: bool = False
    norm_first: bool = False
    per_cell: bool = False

    def __post_init__(self) -> None:
        """Checks what can be checked before building."""
        if self.encoder not in ENCODERS:
            raise UnknownName("encoder", self.encoder, ENCODERS)
        if self.activation not in ACTIVATIONS:
            raise UnknownName("activation", self.activation, ACTIVATIONS)
        for name, least in (("width", 1), ("depth", 1), ("heads", 1), ("mlp_width", 0)):
            if getattr(self, name) < least:
                raise InvalidValue(f"{name} of a tower is {getattr(self, name)}; give at least {least}")

    @property
    def modality(self) -> str:
        """What the tower reads."""
        return self.preprocessor.modality


def encoder(config: TowerConfig) -> nn.Module:
    """Returns the encoder that ``config`` describes, with fresh weights.

    Raises:
        InvalidValue: numbers that do not fit each other, such as a width that its heads do not divide.
    """
    layout = config.preprocessor.layout
    if config.encoder == "convolutional":
        if isinstance(layout, Symbols) or not config.channels:
            raise InvalidValue(
                "a convolutional encoder needs a media grid and at least one number of channels; "
                f"the {config.modality} tower has channels {config.channels}"
            )
        return ConvolutionalEncoder(
            layout, config.width, config.first or layout.patch, config.channels, config.depth, config.pooling
        )
    first = stem(layout, config.width, config.first, config.channels)
    if config.encoder == "recurrent":
        return RecurrentEncoder(first, config.width, config.depth, pooling=config.pooling)
    axes = 1 if isinstance(layout, Symbols) else layout.rank
    if len(config.sizes) != axes:
        raise InvalidValue(
            f"the {config.modality} tower has sizes for {len(config.sizes)} axes, {config.sizes}, and its tokens lie "
            f"on {axes}; give one for each, 0 for an axis without limit"
        )
    inner = config.mlp_width or 4 * config.width
    return TransformerEncoder(
        first,
        Positions(config.width, config.sizes, config.per_cell),
        [Block(config.width, config.heads, inner, config.dropout, config.activation) for _ in range(config.depth)],
        Pooling(config.pooling, config.width, config.heads),
        token_dropout=config.token_dropout,
        class_token=config.class_token,
        norm_first=config.norm_first,
        causal=config.causal,
    )


def tiny(modality: str, tokenizer: Any) -> TowerConfig:
    """Returns a tower for a laptop: half a million weights, 16 tokens of a 64 x 64 picture."""
    make = catalog.module("modalities", modality).PREPROCESSOR
    if modality == "text":
        return TowerConfig(make(tokenizer=tokenizer, tokens_max=64), depth=2, sizes=(64,))
    if modality == "image":
        shape = make(height=64, width=64, patch=16)
        return TowerConfig(shape, sizes=(4, 4), first=(4, 4), channels=(48, 96))
    if modality == "video":
        clip = make(frames=8, height=64, width=64, patch=(8, 16, 16))
        return TowerConfig(clip, sizes=(1, 4, 4), first=(8, 4, 4), channels=(48, 96))
    if modality == "audio":
        sound = make(channels=2, mels=96, window=1024, hop=320, patch_frames=4)
        return TowerConfig(sound, sizes=(1, 0), first=(4, 1), channels=(48, 96))
    return TowerConfig(make(channels=9, patch=16), depth=4, sizes=(0,))
