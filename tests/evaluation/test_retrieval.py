import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, ndcg_score

from intermodal.diorama.scene import draw_scenes
from intermodal.errors import InvalidValue
from intermodal.evaluation.retrieval import per_query, recall_ceiling, retrieval, retrieval_between


def ordered_figures(relevant):
    """Returns the figures of one ranking, from the definition; ``relevant`` is best first."""
    places = [i + 1 for i, hit in enumerate(relevant) if hit]
    ideal = sum(1 / math.log2(p + 1) for p in range(1, len(places) + 1))
    ideal_10 = sum(1 / math.log2(p + 1) for p in range(1, min(10, len(places)) + 1))
    return {
        "recall_at_1": float(places[0] <= 1),
        "recall_at_2": float(places[0] <= 2),
        "recall_at_5": float(places[0] <= 5),
        "rank": places[0],
        "mrr": 1 / places[0],
        "ndcg_at_10": sum(1 / math.log2(p + 1) for p in places if p <= 10) / ideal_10,
        "ndcg": sum(1 / math.log2(p + 1) for p in places) / ideal,
        "map": sum((i + 1) / p for i, p in enumerate(places)) / len(places),
    }


def expected_figures(scores, relevant):
    """Returns the mean of the figures over every order of the items that keeps better scores first."""
    every = []
    for order in itertools.permutations(range(len(scores))):
        ranked = [scores[i] for i in order]
        if ranked == sorted(ranked, reverse=True):
            every.append(ordered_figures([relevant[i] for i in order]))
    return {name: float(np.mean([figures[name] for figures in every])) for name in every[0]}


@st.composite
def rankings(draw, gallery_max=6):
    count = draw(st.integers(1, gallery_max))
    scores = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, -np.inf]), min_size=count, max_size=count))
    relevant = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    return scores, relevant


@given(rankings())
def test_each_figure_is_the_mean_over_all_orders_of_ties(ranking):
    scores, relevant = ranking
    found = per_query(np.array([scores]), np.array([relevant]), ks=(1, 2, 5))
    expected = expected_figures(scores, relevant)
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


def data(queries=40, gallery=60, seed=0, decimals=8):
    rng = np.random.default_rng(seed)
    relevant = rng.random((queries, gallery)) < 0.1
    relevant[np.arange(queries), rng.integers(0, gallery, queries)] = True
    return np.round(rng.random((queries, gallery)) + 0.3 * relevant, decimals), relevant


@pytest.mark.parametrize("decimals", [1, 8])
def test_ndcg_equals_scikit_learn_ties_included(decimals):
    scores, relevant = data(decimals=decimals)
    found = retrieval(scores, relevant)
    assert found["ndcg"] == pytest.approx(ndcg_score(relevant, scores), abs=1e-12)
    assert found["ndcg_at_10"] == pytest.approx(ndcg_score(relevant, scores, k=10), abs=1e-12)


def test_precision_equals_scikit_learn():
    scores, relevant = data()
    rows = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(per_query(scores, relevant)["map"], rows, atol=1e-12)
    expected = label_ranking_average_precision_score(relevant, scores)
    assert retrieval(scores, relevant)["map"] == pytest.approx(expected, abs=1e-12)


def test_every_mean_equals_torchmetrics():
    retrieval_metrics = pytest.importorskip("torchmetrics.retrieval")
    scores, relevant = data()
    index = torch.arange(len(scores))[:, None].expand(scores.shape)
    peers = {
        "recall_at_1": retrieval_metrics.RetrievalHitRate(top_k=1),
        "recall_at_5": retrieval_metrics.RetrievalHitRate(top_k=5),
        "recall_at_10": retrieval_metrics.RetrievalHitRate(top_k=10),
        "mrr": retrieval_metrics.RetrievalMRR(),
        "map": retrieval_metrics.RetrievalMAP(),
        "ndcg": retrieval_metrics.RetrievalNormalizedDCG(),
        "ndcg_at_10": retrieval_metrics.RetrievalNormalizedDCG(top_k=10),
    }
    found = retrieval(torch.tensor(scores), torch.tensor(relevant))
    for name, peer in peers.items():
        value = peer(torch.tensor(scores), torch.tensor(relevant), indexes=index).item()
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_the_example_of_two_pictures_and_four_texts():
    to_text = np.array([[0.9, 0.1, 0.8, 0.0], [0.5, 0.9, 0.1, 0.2]])
    labels = np.array([0, 1]), np.array([0, 0, 1, 1])
    found = retrieval(to_text, query_labels=labels[0], gallery_labels=labels[1], ks=(1, 2, 3))
    assert found["recall_at_1"] == found["recall_at_2"] == 0.5
    assert found["recall_at_3"] == 1.0
    assert found["median_rank"] == found["mean_rank"] == 2.0
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + (1 / 3 + 2 / 4) / 2) / 2)
    back = retrieval(to_text.T, query_labels=labels[1], gallery_labels=labels[0], ks=(1,))
    assert (back["recall_at_1"], back["mrr"], back["median_rank"]) == (0.5, 0.75, 1.5)
    assert (back["count"], back["gallery_count"]) == (4.0, 2.0)


@pytest.mark.parametrize("relevant_count", [1, 4])
def test_a_constant_similarity_gives_chance(relevant_count):
    labels = np.arange(100) // relevant_count
    found = retrieval(np.ones((100, 100)), query_labels=labels, gallery_labels=labels)
    miss = math.prod((100 - relevant_count - i) / (100 - i) for i in range(10))
    assert found["recall_at_1"] == pytest.approx(relevant_count / 100)
    assert found["recall_at_10"] == pytest.approx(1 - miss)
    assert found["median_rank"] == found["mean_rank"] == pytest.approx(101 / (relevant_count + 1))


def test_a_perfect_similarity_gives_one():
    found = retrieval(np.eye(20))
    assert all(found[name] == pytest.approx(1.0) for name in found if not name.endswith("count"))


@given(st.integers(0, 50), st.sampled_from([1, 8]))
def test_neither_order_nor_scale_matters(seed, decimals):
    scores, relevant = data(6, 9, seed, decimals)
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(6), rng.permutation(9)
    there = retrieval(scores, relevant)
    assert retrieval(scores[i][:, j], relevant[i][:, j]) == pytest.approx(there, abs=1e-12)
    assert retrieval(4 * scores - 2, relevant) == pytest.approx(there, abs=1e-12)


def test_labels_the_matrix_and_the_diagonal_say_the_same():
    scores, _ = data(12, 12)
    labels = np.arange(12)
    expected = retrieval(scores, np.eye(12, dtype=bool))
    assert retrieval(scores) == expected
    assert retrieval(scores, query_labels=labels, gallery_labels=labels) == expected


def test_between_vectors_equals_the_whole_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 8)), rng.normal(size=(45, 8))
    labels = np.arange(30) % 9, np.arange(45) % 9
    monkeypatch.setattr("intermodal.evaluation.retrieval._ENTRIES", 45 * 7)
    assert retrieval_between(a, b, *labels) == pytest.approx(retrieval(a @ b.T, None, *labels), abs=1e-9)
    assert retrieval_between(torch.tensor(a), torch.tensor(a)) == pytest.approx(retrieval(a @ a.T), abs=1e-9)


@pytest.mark.slow
def test_memory_does_not_grow_with_queries_times_gallery(monkeypatch):
    monkeypatch.setattr("intermodal.evaluation.retrieval._ENTRIES", 2**20)
    vectors = np.random.default_rng(0).normal(size=(10_000, 16)).astype(np.float32)
    labels = np.arange(10_000)
    tracemalloc.start()
    found = retrieval_between(vectors[:2000], vectors + 0.1, labels[:2000], labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found["count"], found["gallery_count"]) == (2000, 10_000)
    assert peak < 20e6  # the whole matrix is 80 MB


def test_the_ceiling_by_counting():
    keys = ["a", "b", "b", "c", "c", "c"]
    assert recall_ceiling(keys, keys) == pytest.approx(3 / 6)
    assert recall_ceiling(keys, keys, k=2) == pytest.approx((1 + 2 + 3 * 2 / 3) / 6)
    assert recall_ceiling(keys, keys, k=3) == 1.0
    assert recall_ceiling(["a", "z"], keys) == 0.5


def test_no_one_beats_the_ceiling_and_knowing_the_key_reaches_it():
    scenes = draw_scenes("test", range(400))
    keys = [scene.seen_by("audio", "timeseries") for scene in scenes]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    ids = np.array([number[key] for key in keys])
    assert len(number) < 400
    knows_the_key = retrieval((ids[:, None] == ids[None, :]).astype(float))
    for k in (1, 5, 10):
        assert knows_the_key[f"recall_at_{k}"] == pytest.approx(recall_ceiling(keys, keys, k), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"similarity": np.ones((2, 3))}, "2 queries and 3 gallery"),
        ({"similarity": np.ones((2, 2)), "query_labels": np.arange(2)}, "only one kind"),
        ({"similarity": np.ones((2, 2)), "relevant": np.eye(2) > 0, "query_labels": np.arange(2)}, "one of the two"),
        ({"similarity": np.array([[1.0, np.nan], [0.0, 1.0]])}, "query 0 are not numbers"),
        ({"similarity": np.ones((2, 2)), "relevant": np.array([[True, False], [False, False]])}, "query 1 has nothing"),
        ({"similarity": np.ones((2, 2)), "ks": ()}, "at least 1"),
        ({"similarity": np.ones((2, 2)), "ks": (0,)}, "at least 1"),
        ({"similarity": np.ones((0, 0))}, "0 queries"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(InvalidValue, match=message):
        retrieval(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"relevant": np.eye(2) > 0}, "one truth value per pair"),
        ({"query_labels": np.arange(3), "gallery_labels": np.arange(2)}, "3 and 2 labels"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, message):
    """Asked of the plain function: under the shape checks of the tests the wrong shapes would not get that far."""
    plain = getattr(retrieval, "__wrapped__", retrieval)
    plain_per_query = getattr(per_query, "__wrapped__", per_query)
    assert plain(np.eye(3)) == retrieval(np.eye(3))
    with pytest.raises(InvalidValue, match=message):
        plain_per_query(np.eye(3), **arguments)


@pytest.mark.parametrize(("keys", "k"), [([], 1), (["a"], 0)])
def test_a_ceiling_of_nothing_is_refused(keys, k):
    with pytest.raises(InvalidValue, match="ceiling"):
        recall_ceiling(keys, ["a"], k)
