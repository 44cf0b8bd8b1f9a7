"""Which answers a model gives rightly to the questions about unseen pictures of Diorama."""

from typing import Any

FIELDS = ("image", "question", "answer")
BATCH = 64  # changes nothing but the memory needed


def answers_right(model: Any, split: str, count: int) -> dict[str, float]:
    """Returns the accuracy over the first ``count`` questions of a split, in all and by kind."""
    from intermodal.diorama.source import Diorama
    from intermodal.evaluation.answers import answer_accuracy

    source = Diorama(split, FIELDS, count)
    samples: list[Any] = source.samples(range(count))
    given: list[str] = []
    for start in range(0, count, BATCH):
        part = samples[start : start + BATCH]
        given += model.answers([{"image": one["image"]} for one in part], [one["question"].text for one in part])
    kinds = [question.kind for question in source.asked(range(count))]
    return answer_accuracy(given, [one["answer"].text for one in samples], kinds)
