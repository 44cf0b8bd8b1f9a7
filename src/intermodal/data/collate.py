"""Samples to batches: one batch per field, a missing item as a row whose mask is all False."""

from collections.abc import Mapping, Sequence

from intermodal.errors import InvalidData
from intermodal.types import Batch, Preprocessor, Sample


def collate(samples: Sequence[Sample], preprocessors: Mapping[str, Preprocessor]) -> dict[str, Batch]:
    """Returns one batch per preprocessor, each with one row per sample, in the order of the samples.

    Every field is there in every batch, also one that no sample has: its mask is then all False. Fields of the samples
    that have no preprocessor are left out.

    Args:
        samples: what a source gives; at least one.
        preprocessors: field name -> what turns its items into rows.

    Raises:
        InvalidData: no samples, or an item of another modality than its field's preprocessor takes.
    """
    if not samples:
        raise InvalidData("a batch of no samples cannot be made; give at least one")
    batches = {}
    for name, preprocessor in preprocessors.items():
        items = [sample.get(name) for sample in samples]
        for item in items:
            if item is not None and item.modality != preprocessor.modality:
                raise InvalidData(
                    f"the field {name!r} holds an item of modality {item.modality}, but its preprocessor takes "
                    f"{preprocessor.modality}; rename the field or use the other preprocessor"
                )
        batches[name] = preprocessor(items)
    return batches
