"""Candidates put in order by another model: which of them fits best to what was asked for.

Follows: Ramesh et al. 2021, arXiv 2102.12092, section 2.6: a contrastive model picks among many samples of one
sentence. Any model that embeds both sides will do.
"""

from collections.abc import Sequence

from intermodal.errors import InvalidValue
from intermodal.types import Candidate, Embeds, Item


def rank(candidates: Sequence[Sequence[Candidate]], asked: Sequence[Item], ranker: Embeds) -> list[list[Candidate]]:
    """Returns the same candidates, best first by the cosine between each and what was asked for: their new score.

    Equal ones stay in the order that they came in.

    Args:
        candidates: of each request, as ``Completes.candidates`` gives them.
        asked: the item of each request that they are to fit.
        ranker: embeds what was asked and what was made.

    Raises:
        InvalidValue: other numbers of requests and of items asked.
        Unsupported: the ranker does not embed one of the modalities.
    """
    if len(candidates) != len(asked):
        raise InvalidValue(f"there are candidates of {len(candidates)} requests and {len(asked)} items; give one each")
    made = [candidate.item for row in candidates for candidate in row]
    if not made:
        return [[] for _ in candidates]
    wanted, vectors = ranker.embed(asked), ranker.embed(made)
    result, stop = [], 0
    for row, target in zip(candidates, wanted, strict=True):
        start, stop = stop, stop + len(row)
        scores = (vectors[start:stop] @ target).tolist()
        scored = [Candidate(old.item, score) for old, score in zip(row, scores, strict=True)]
        result.append(sorted(scored, key=lambda candidate: -candidate.score))
    return result
