"""Answers to questions, right when they are the wanted words exactly: over all, and for each kind of question.

Beside each accuracy stands what one gets without looking at anything, by always giving the most frequent answer of a
kind. Capitals and blanks do not count; nothing else is forgiven, no synonym and no sentence around the answer.
"""

from collections import Counter
from collections.abc import Sequence

from intermodal.errors import InvalidValue
from intermodal.evaluation.uncertainty import wilson


def answer_accuracy(predicted: Sequence[str], wanted: Sequence[str], kinds: Sequence[str]) -> dict[str, float]:
    """Returns ``answer_accuracy``, that of each kind, and what the most frequent answers would have scored.

    ``answer_accuracy`` lies between ``answer_accuracy_low`` and ``_high`` with 95 % (Wilson). ``majority_accuracy`` is
    that of giving each question the answer that is wanted most often of its kind, as counted in ``wanted`` itself. For
    each kind there are ``<kind>_accuracy``, ``<kind>_majority_accuracy`` and ``<kind>_count``; ``count`` is that of all
    questions.

    Args:
        predicted: the answers that were given.
        wanted: the right ones.
        kinds: of which kind each question is; the finer, the higher the majority's accuracy.

    Raises:
        InvalidValue: no answers, other numbers of the three, or a kind named "answer" or "majority".
    """
    if not wanted or not len(predicted) == len(wanted) == len(kinds):
        raise InvalidValue(
            f"there are {len(predicted)} answers, {len(wanted)} wanted ones and {len(kinds)} kinds; give one of each "
            "per question, at least one"
        )
    for kind in {"answer", "majority"} & set(kinds):
        raise InvalidValue(f"a kind is named {kind!r}, as the figures over all kinds are; give it another name")
    given, true = ([" ".join(text.casefold().split()) for text in texts] for texts in (predicted, wanted))
    right = Counter(kind for kind, a, b in zip(kinds, given, true, strict=True) if a == b)
    per_kind = {kind: Counter(b for k, b in zip(kinds, true, strict=True) if k == kind) for kind in sorted(set(kinds))}
    majority = {kind: max(answers.values()) for kind, answers in per_kind.items()}
    low, high = wilson(right.total(), len(true))
    result = {
        "answer_accuracy": right.total() / len(true),
        "answer_accuracy_low": low,
        "answer_accuracy_high": high,
        "majority_accuracy": sum(majority.values()) / len(true),
        "count": float(len(true)),
    }
    for kind, answers in per_kind.items():
        result[f"{kind}_accuracy"] = right[kind] / answers.total()
        result[f"{kind}_majority_accuracy"] = majority[kind] / answers.total()
        result[f"{kind}_count"] = float(answers.total())
    return result
