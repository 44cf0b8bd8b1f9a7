"""One tower: the preprocessor of a field and the encoder of what it gives, described by one record.

The record is what configs of every system hold and what is saved with the weights; ``encoder`` builds from it.
"""

from dataclasses import dataclass

from torch import nn

from intermodal.encoders.convolutional import ConvolutionalEncoder
from intermodal.encoders.recurrent import RecurrentEncoder
from intermodal.encoders.transformer import TransformerEncoder
from intermodal.errors import InvalidValue, UnknownName
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

    def __post_init__(self) -> None:
        """Checks what can be checked before building."""
        if self.encoder not in ENCODERS:
            raise UnknownName("encoder", self.encoder, ENCODERS)
        for name in ("width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"{name} of a tower is {getattr(self, name)}; give at least 1")

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
    return TransformerEncoder(
        first,
        config.width,
        config.depth,
        config.heads,
        config.sizes,
        config.pooling,
        dropout=config.dropout,
        token_dropout=config.token_dropout,
    )
