"""Diorama as a data source: samples rendered when they are asked for, as many as one likes."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from intermodal.diorama import pictures, sentences, series, sounds, speech
from intermodal.diorama.pointing import Pointed, pointed
from intermodal.diorama.questions import Question
from intermodal.diorama.restyling import draw_restyling
from intermodal.diorama.scene import CARRIES, SPLITS, Scenes, draw_scenes
from intermodal.diorama.tasks import CHOICES, TASK_VOCABULARY, TASKS, draw_asked, render_tasks
from intermodal.errors import InvalidValue, MissingExtra, UnknownName
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.modalities.video import Video
from intermodal.types import MODALITIES, Item, Sample

FIELDS = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "video": "video",
    "timeseries": "timeseries",
    "speech": "audio",
    **TASKS,
}
"""Every field and its modality. What is not one of the five modalities is left out unless asked for; speech needs the
extra of that name."""

TRAIN_SIZE = 1_000_000
TEST_SIZE = 1_000


class Diorama:
    """Scenes of one split in several renderings; sample ``i`` is the same for ever.

    Attributes:
        fields: field name -> modality.
        split: which scenes.
        vocabulary: every word its sentences can hold, and those of its questions, answers and phrases if it has any.
    """

    vocabulary = sentences.VOCABULARY

    def __init__(
        self,
        split: str = "train",
        fields: Sequence[str] | None = None,
        size: int | None = None,
        seed: int = 0,
        variation: int = 0,
    ) -> None:
        """Opens a split.

        Args:
            split: train, dev, test or compositional.
            fields: which of ``FIELDS``; default: the five modalities.
            size: number of samples; default a million for training, a thousand else.
            seed: another seed shows other scenes of the same split.
            variation: another number renders the same scenes afresh: other words, places, hues, voices and noise.

        Raises:
            UnknownName: no such split or rendering.
            MissingExtra: speech was asked for and its package is absent.
        """
        if split not in SPLITS:
            raise UnknownName("split of diorama", split, SPLITS)
        chosen = tuple(fields) if fields else tuple(name for name in FIELDS if name in MODALITIES)
        for name in chosen:
            if name not in FIELDS:
                raise UnknownName("rendering of diorama", name, FIELDS)
        if "speech" in chosen and not speech.available():
            raise MissingExtra("espeakng-loader", "speech", "the rendering speech")
        self.split = split
        self.fields = {name: FIELDS[name] for name in chosen}
        if any(TASKS.get(name) == "text" for name in chosen):
            self.vocabulary = tuple(dict.fromkeys((*sentences.VOCABULARY, *TASK_VOCABULARY)))
        usual = TRAIN_SIZE if split == "train" else TEST_SIZE
        self._size = usual if size is None else size
        if self._size < 1:
            raise InvalidValue(f"a diorama of {size} samples was asked for; give at least 1")
        self._seed = seed
        self._variation = (variation * 65_537 + seed) * len(SPLITS) + SPLITS.index(split)  # never shared by two splits

    def __len__(self) -> int:
        """Returns the number of samples."""
        return self._size

    def describe(self) -> dict[str, Any]:
        """Returns what a report should say of this data."""
        return {"name": "diorama", "split": self.split, "count": len(self), "seed": self._seed, "fields": self.fields}

    def scenes(self, index: Sequence[int]) -> Scenes:
        """Returns the truth behind samples ``index``."""
        return self._drawn(index)[0]

    def asked(self, index: Sequence[int], field: str = "question") -> list[Question]:
        """Returns the questions of samples ``index`` in a field such as ``question``, with their kinds.

        Raises:
            UnknownName: another field.
        """
        return draw_asked(field, *self._drawn(index), self._variation)

    def choices(self, field: str) -> tuple[str, ...]:
        """Returns every answer that a field such as ``answer`` can hold; empty for another field."""
        return CHOICES.get(field, ())

    def pointed(self, index: Sequence[int]) -> list[Pointed]:
        """Returns the objects that phrase, mask and tone of samples ``index`` are about, with their boxes."""
        return pointed(*self._drawn(index), self._variation)

    def palette_scenes(self, index: Sequence[int]) -> Scenes:
        """Returns the truth behind the palettes of samples ``index``: scenes of one object."""
        return draw_restyling(self.split, *self._drawn(index), self._variation).palettes

    def restyled_scenes(self, index: Sequence[int]) -> Scenes:
        """Returns the truth behind the restyled pictures of samples ``index``."""
        return draw_restyling(self.split, *self._drawn(index), self._variation).restyled

    def keys(self, index: Sequence[int], *fields: str) -> list[Hashable]:
        """Returns for each sample what all of ``fields`` carry of it: equal keys cannot be told apart through them.

        Raises:
            UnknownName: a field that shows no whole scene, such as an answer or a mask.
        """
        for name in fields:
            if name not in CARRIES:
                raise UnknownName("rendering that shows a whole scene of diorama", name, CARRIES)
        return [scene.seen_by(*fields) for scene in self.scenes(index)]

    def samples(self, index: Sequence[int]) -> list[Sample]:
        """Returns the samples ``index``, rendered together."""
        scenes, ids = self._drawn(index)
        columns: dict[str, Sequence[Item]] = {
            name: self._render(name, scenes, ids) for name in self.fields if name not in TASKS
        }
        columns |= render_tasks(self.fields, self.split, scenes, ids, self._variation)
        return [{name: columns[name][i] for name in self.fields} for i in range(len(ids))]

    def _drawn(self, index: Sequence[int]) -> tuple[Scenes, np.ndarray]:
        """Returns the scenes of samples ``index``, and the numbers that their renderings are drawn from."""
        ids = np.asarray(index, dtype=np.int64) % self._size
        return draw_scenes(self.split, ids, self._seed), ids

    def _render(self, name: str, scenes: Scenes, ids: np.ndarray) -> Sequence[Item]:
        """Returns one rendering of every scene."""
        seed = self._variation
        if name == "text":
            return [Text(words) for words in sentences.render_texts(scenes, ids, seed)]
        if name == "image":
            return [Image(pixels) for pixels in _fixed(pictures.render_images(scenes, ids, seed))]
        if name == "video":
            clips = _fixed(pictures.render_videos(scenes, ids, seed))
            return [Video(frames, pictures.FRAMES_PER_S) for frames in clips]
        if name == "audio":
            return [Audio(samples, sounds.RATE_HZ) for samples in _fixed(sounds.render_sounds(scenes, ids, seed))]
        if name == "timeseries":
            traces = _fixed(series.render_series(scenes, ids, seed))
            return [TimeSeries(values, series.CHANNELS, series.RATE_HZ) for values in traces]
        texts = sentences.render_texts(scenes, ids, seed + 1)
        spoken = speech.render_speech(texts, ids, seed, speech.variants_of(self.split))
        return [Audio(samples, speech.SPEECH_RATE_HZ) for samples in spoken]


def _fixed(array: np.ndarray) -> np.ndarray:
    """Returns ``array`` made read-only, so that items hold views of it and not copies."""
    array.setflags(write=False)
    return array
