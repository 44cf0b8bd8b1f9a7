"""Word vectors from sentences: skip-gram with negative sampling.

Each word is to tell the words around it from words drawn at random; who keeps the same company gets similar vectors.

Source: Mikolov et al. 2013, "Distributed Representations of Words and Phrases and their Compositionality", arXiv
1310.4546, eqs. 4 and 5: negatives by the count to the power of 3/4, frequent words left out at random, windows of a
random size. Changed: pairs are taken in batches, and the gradient is Adagrad's, whose rate per word needs no schedule.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from intermodal.encoders.word_vectors import WordVectors, shares
from intermodal.errors import InvalidData, InvalidValue
from intermodal.tokenizers.word import split_words

POWER = 0.75


@dataclass(frozen=True)
class SkipGram:
    """How vectors are learnt.

    Attributes:
        width: numbers of a vector.
        window: words on each side at most; each word draws its own from 1 up.
        negatives: random words per pair.
        epochs: times that every sentence is seen.
        count_min: words that occur less often get no vector.
        frequent: share of all words above which a word is left out at random; 0 keeps all.
        batch: pairs per step.
        rate: of Adagrad.
    """

    width: int = 64
    window: int = 4
    negatives: int = 5
    epochs: int = 5
    count_min: int = 2
    frequent: float = 1e-3
    batch: int = 1024
    rate: float = 0.2

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name in ("width", "window", "negatives", "epochs", "count_min", "batch"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"{name} of skip-gram is {getattr(self, name)}; give at least 1")
        if self.frequent < 0 or self.rate <= 0:
            raise InvalidValue(f"frequent is {self.frequent}, at least 0, and rate {self.rate}, above 0; change them")


def pairs(
    sentences: list[np.ndarray], window: int, keep: Float[np.ndarray, " V"], draws: np.random.Generator
) -> Int64[np.ndarray, "N 2"]:
    """Returns word and neighbour of every pair within the windows, in random order.

    Args:
        sentences: ids of the words of each.
        window: the largest.
        keep: how likely each word is kept.
        draws: decides.
    """
    found = []
    for ids in sentences:
        kept = ids[draws.random(len(ids)) < keep[ids]]
        reach = draws.integers(1, window + 1, len(kept))
        for step in range(1, min(window, len(kept) - 1) + 1):
            ahead, behind = kept[:-step], kept[step:]
            found += [np.stack((ahead, behind), 1)[reach[:-step] >= step]]
            found += [np.stack((behind, ahead), 1)[reach[step:] >= step]]
    both = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    return both[draws.permutation(len(both))]


def loss(
    words: Float[Tensor, "N D"], around: Float[Tensor, "N D"], others: Float[Tensor, "N K D"]
) -> Float[Tensor, ""]:
    """Returns the negative logarithm of telling each neighbour from random words, mean over pairs (eq. 4)."""
    right = F.logsigmoid((words * around).sum(dim=1))
    wrong = F.logsigmoid(-torch.einsum("nd,nkd->nk", words, others)).sum(dim=1)
    return -(right + wrong).mean()


def train_vectors(texts: Iterable[str], how: SkipGram = SkipGram(), seed: int = 0) -> WordVectors:
    """Returns vectors of the words in ``texts``, the most frequent word first.

    Args:
        texts: sentences; read once.
        how: numbers of the training.
        seed: of all that is drawn.

    Raises:
        InvalidData: fewer than two words occur often enough, or no two of them stand together.
    """
    split = [split_words(text) for text in texts]
    counts = Counter(word for words in split for word in words)
    words = [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= how.count_min]
    place = {word: i for i, word in enumerate(words)}
    sentences = [np.array([place[w] for w in one if w in place], np.int64) for one in split]
    total = sum(counts[word] for word in words)
    if len(words) < 2:
        raise InvalidData(f"{len(words)} words occur {how.count_min} times or more; give more text, or lower count_min")
    number = np.array([counts[word] for word in words], np.float64)
    keep = np.minimum(1.0, np.sqrt(how.frequent * total / number)) if how.frequent else np.ones(len(words))
    draws, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    table = ((torch.rand(len(words), how.width, generator=generator) - 0.5) / how.width).requires_grad_()
    company = torch.zeros(len(words), how.width, requires_grad=True)
    share = torch.from_numpy(shares([int(n) for n in number], POWER))
    optimizer = torch.optim.Adagrad([table, company], lr=how.rate)
    seen = 0
    for _ in range(how.epochs):
        both = torch.from_numpy(pairs(sentences, how.window, keep, draws))
        for start in range(0, len(both), how.batch):
            part = both[start : start + how.batch]
            others = torch.multinomial(share, len(part) * how.negatives, True, generator=generator)
            cost = loss(table[part[:, 0]], company[part[:, 1]], company[others.view(len(part), -1)])
            optimizer.zero_grad()
            (cost * len(part)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += len(part)
    if not seen:
        raise InvalidData("no two words that occur often enough stand together; give sentences of several words")
    return WordVectors(tuple(words), table.detach().numpy().astype(np.float32))
