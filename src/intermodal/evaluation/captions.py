"""Captions: how much of what people wrote a made sentence shares, by n-grams (BLEU, ROUGE, CIDEr).

Every candidate has one or several references. Texts are cut into words by ``words``, or by what is passed instead; no
figure can be compared with one that cuts otherwise.

Left out: METEOR, which needs a Java program and tables of synonyms and paraphrases, and SPICE, which needs a parser.
Simplified: no stemming before CIDEr (the paper stems; the code that publications use does not), and the tokens are
those of the Penn Treebank tokeniser only as far as the rules of ``words`` go.

Source: BLEU: Papineni et al. 2002, ACL, section 2.3. ROUGE: Lin 2004, "ROUGE: a package for automatic evaluation of
summaries". CIDEr and CIDEr-D: Vedantam et al. 2015, arXiv 1411.5726. The conventions for captions: Chen et al. 2015,
arXiv 1504.00325.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from intermodal.errors import InvalidValue

Tokenize = Callable[[str], Sequence[str]]
NGram = tuple[str, ...]

_SIGMA = 6.0  # of CIDEr-D: words by which lengths may differ
_SCALE = 10.0  # of CIDEr and CIDEr-D, as published
_CIDER_ORDER = 4
_COCO_BETA = 1.2  # of ROUGE-L for captions: how much more recall counts
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|\w+(?:['-]\w+)*")
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))$")


def words(text: str) -> list[str]:
    """Returns the words of a text in lower case, without punctuation.

    Hyphened words and numbers with a point or comma stay whole; "don't" is "do" and "n't", "dog's" is "dog" and "'s".
    """
    found = []
    for token in _TOKEN.findall(text.lower().replace("’", "'")):
        clitic = _CLITIC.search(token)
        found += [token] if clitic is None else [token[: clitic.start()], clitic[0]]
    return found


def n_grams(tokens: Sequence[str], order: int) -> Counter[NGram]:
    """Returns how often each run of ``order`` tokens occurs."""
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


def captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns all figures of ``bleu``, ``rouge`` and ``cider``.

    Raises:
        InvalidValue: see those.
    """
    return {**bleu(candidates, references), **rouge(candidates, references), **cider(candidates, references)}


def bleu(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = words,
    order: int = 4,
    smooth: bool = False,
) -> dict[str, float]:
    """Returns ``bleu_1`` to ``bleu_<order>``, ``brevity_penalty`` and the counts; of the whole corpus, 0 to 1.

    Matches and lengths are added up over all texts before anything is divided; the mean of the texts' own values is
    another figure. Compared is with the reference closest in length, of two the shorter one.

    Args:
        candidates: N texts.
        references: the texts each is compared with, one or several.
        tokenize: text to words.
        order: the longest n-gram.
        smooth: add one to the matches and the n-grams of orders from 2 on (Lin, Och 2004, "ORANGE"); without it a
            corpus in which no n-gram of an order matches has 0.

    Raises:
        InvalidValue: no candidates, one without references, or an order below 1.
    """
    made, wanted = _tokens(candidates, references, tokenize)
    if order < 1:
        raise InvalidValue(f"order is {order}; give the length of the longest n-gram, at least 1")
    matches, totals, length, reference_length = [0] * order, [0] * order, 0, 0
    for tokens, others in zip(made, wanted, strict=True):
        length += len(tokens)
        reference_length += min((abs(len(r) - len(tokens)), len(r)) for r in others)[1]
        for n in range(1, order + 1):
            own, most = n_grams(tokens, n), Counter[NGram]()
            for reference in others:
                most |= n_grams(reference, n)
            matches[n - 1] += (own & most).total()
            totals[n - 1] += own.total()
    return {
        **{
            f"bleu_{n}": bleu_of_counts(matches[:n], totals[:n], length, reference_length, smooth)
            for n in range(1, order + 1)
        },
        "brevity_penalty": _brevity_penalty(length, reference_length),
        **_counts(wanted),
    }


def bleu_of_counts(
    matches: Sequence[int], totals: Sequence[int], length: int, reference_length: int, smooth: bool
) -> float:
    """Returns BLEU from the matching and all n-grams of each order from 1 on, and the lengths in words."""
    added = [0] + [int(smooth)] * (len(matches) - 1)
    shares = [(m + a) / max(t + a, 1) for m, t, a in zip(matches, totals, added, strict=True)]
    if min(shares) == 0.0:
        return 0.0
    return _brevity_penalty(length, reference_length) * math.exp(sum(map(math.log, shares)) / len(shares))


def _brevity_penalty(length: int, reference_length: int) -> float:
    if length >= reference_length:
        return 1.0
    return math.exp(1.0 - reference_length / length) if length else 0.0


def rouge(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize = words
) -> dict[str, float]:
    """Returns ``rouge_1``, ``rouge_2``, ``rouge_l``, ``rouge_l_coco`` and the counts; means over the texts, 0 to 1.

    The first three are F1 against the best reference of each. ``rouge_l_coco`` is what caption papers report: recall
    counts 1.2 times, and the best precision and the best recall may come from different references.

    Raises:
        InvalidValue: no candidates, or one without references.
    """
    each = rouge_each(candidates, references, tokenize)
    counts = {"count": float(len(candidates)), "reference_count": float(sum(map(len, references)))}
    return {**{name: float(values.mean()) for name, values in each.items()}, **counts}


def rouge_each(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize = words
) -> dict[str, Float[np.ndarray, " N"]]:
    """Returns the figures of ``rouge`` for each text."""
    made, wanted = _tokens(candidates, references, tokenize)
    result: dict[str, list[float]] = {name: [] for name in ("rouge_1", "rouge_2", "rouge_l", "rouge_l_coco")}
    for tokens, others in zip(made, wanted, strict=True):
        for n in (1, 2):
            own = n_grams(tokens, n)
            found = [((own & theirs).total(), theirs.total()) for theirs in (n_grams(r, n) for r in others)]
            result[f"rouge_{n}"].append(max(_f_score(m, own.total(), theirs, 1.0) for m, theirs in found))
        common = [(longest_common_subsequence(tokens, r), len(r)) for r in others]
        result["rouge_l"].append(max(_f_score(m, len(tokens), theirs, 1.0) for m, theirs in common))
        precision = max(m / max(len(tokens), 1) for m, _ in common)
        recall = max(m / max(theirs, 1) for m, theirs in common)
        result["rouge_l_coco"].append(_weighted(precision, recall, _COCO_BETA))
    return {name: np.asarray(values) for name, values in result.items()}


def _f_score(matches: int, own: int, theirs: int, beta: float) -> float:
    return _weighted(matches / max(own, 1), matches / max(theirs, 1), beta)


def _weighted(precision: float, recall: float, beta: float) -> float:
    below = recall + beta**2 * precision
    return (1 + beta**2) * precision * recall / below if below else 0.0


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Returns how many tokens the two have in common in the same order, others between them allowed."""
    numbers = {token: i for i, token in enumerate(set(a) | set(b))}
    ids = np.array([numbers[token] for token in b], dtype=np.int64)
    row = np.zeros(len(b) + 1, np.int64)
    for token in a:
        row[1:] = np.maximum.accumulate(np.maximum(row[1:], row[:-1] + (ids == numbers[token])))
    return int(row[-1])


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many documents each n-gram occurs; a document is all references of one item.

    Attributes:
        counts: n-grams of 1 to 4 words; one that is absent counts as if it occurred once.
        documents: how many there are, at least 2.
    """

    counts: Mapping[NGram, int]
    documents: int

    def __post_init__(self) -> None:
        """Checks that there is something to weigh by."""
        if self.documents < 2:
            raise InvalidValue(
                f"CIDEr weighs words by how many of the items' references hold them, and there are {self.documents} "
                "items; give at least 2, better hundreds, or document frequencies of a larger set"
            )

    def weight(self, n_gram: NGram) -> float:
        """Returns the inverse document frequency: the logarithm of how many documents there are per one with it."""
        return math.log(self.documents / max(1, self.counts.get(n_gram, 0)))


def document_frequencies(references: Sequence[Sequence[str]], tokenize: Tokenize = words) -> DocumentFrequencies:
    """Returns how many items' references hold each n-gram of 1 to 4 words.

    Raises:
        InvalidValue: fewer than 2 items.
    """
    counts: Counter[NGram] = Counter()
    for texts in references:
        tokens = [tokenize(text) for text in texts]
        counts.update({g for t in tokens for n in range(1, _CIDER_ORDER + 1) for g in n_grams(t, n)})
    return DocumentFrequencies(counts, len(references))


def cider(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
    tokenize: Tokenize = words,
) -> dict[str, float]:
    """Returns ``cider``, ``cider_d`` and the counts: means over the texts, 0 to 10, as published (often shown x 100).

    ``cider_d`` is what caption papers report as CIDEr: repeating a word gains nothing, and other lengths lose.

    Args:
        candidates: N texts.
        references: the texts each is compared with, one or several.
        frequencies: in how many documents n-grams occur; default: taken from ``references``, so that the figure depends
            on which items, and how many, are scored together.
        tokenize: text to words.

    Raises:
        InvalidValue: no candidates, one without references, or fewer than 2 items to take the frequencies from.
    """
    each = cider_each(candidates, references, frequencies, tokenize)
    counts = {"count": float(len(candidates)), "reference_count": float(sum(map(len, references)))}
    return {**{name: float(values.mean()) for name, values in each.items()}, **counts}


def cider_each(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
    tokenize: Tokenize = words,
) -> dict[str, Float[np.ndarray, " N"]]:
    """Returns the figures of ``cider`` for each text."""
    made, wanted = _tokens(candidates, references, tokenize)
    known = frequencies or document_frequencies(references, tokenize)
    result = np.zeros((len(made), 2))
    for i, (tokens, others) in enumerate(zip(made, wanted, strict=True)):
        own = _weighted_counts(tokens, known)
        for reference in others:
            closeness = math.exp(-((len(tokens) - len(reference)) ** 2) / (2 * _SIGMA**2))
            for (a, a_norm), (b, b_norm) in zip(own, _weighted_counts(reference, known), strict=True):
                if a_norm and b_norm:
                    plain = sum(value * b.get(g, 0.0) for g, value in a.items())
                    clipped = sum(min(value, b[g]) * b[g] for g, value in a.items() if g in b)
                    result[i] += np.array([plain, clipped * closeness]) / (a_norm * b_norm)
        result[i] *= _SCALE / (_CIDER_ORDER * len(others))
    return {"cider": result[:, 0], "cider_d": result[:, 1]}


def _weighted_counts(tokens: Sequence[str], known: DocumentFrequencies) -> list[tuple[dict[NGram, float], float]]:
    """Returns, for each order, the weighted counts of the n-grams and their norm."""
    result = []
    for n in range(1, _CIDER_ORDER + 1):
        values = {g: count * known.weight(g) for g, count in n_grams(tokens, n).items()}
        result.append((values, math.sqrt(sum(v * v for v in values.values()))))
    return result


def _tokens(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: Tokenize
) -> tuple[list[Sequence[str]], list[list[Sequence[str]]]]:
    """Returns the words of the candidates and of their references, checked."""
    if not candidates or len(candidates) != len(references):
        raise InvalidValue(
            f"there are {len(candidates)} candidates and references for {len(references)}; give at least one "
            "candidate, and references for each"
        )
    for i, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise InvalidValue(f"candidate {i} has the references {texts!r}; give a list of at least one text")
    return [tokenize(text) for text in candidates], [[tokenize(text) for text in texts] for texts in references]


def _counts(wanted: Sequence[Sequence[object]]) -> dict[str, float]:
    return {"count": float(len(wanted)), "reference_count": float(sum(map(len, wanted)))}
