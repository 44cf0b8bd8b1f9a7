import numpy as np
import pytest
import torch

from intermodal.errors import InvalidValue
from intermodal.evaluation.coherence import clip_score, coherence, joint_coherence
from intermodal.evaluation.uncertainty import wilson


def test_coherence_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 5])
    predicted = torch.tensor([0, 0, 1, 1, 1, 2])
    low, high = wilson(4, 6)
    assert coherence(predicted, labels) == {
        "coherence": pytest.approx(4 / 6),
        "coherence_low": low,
        "coherence_high": high,
        "class_coherence_min": 0.0,
        "count": 6.0,
        "classes": 3.0,
    }
    assert coherence(labels, labels)["coherence"] == 1.0
    assert coherence(labels, labels)["coherence_low"] < 0.7


def test_coherence_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    predicted = np.where(rng.random(300) < 0.7, labels, rng.integers(0, 10, 300))
    found = coherence(predicted, labels)
    assert found["coherence"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found["class_coherence_min"] == pytest.approx(metrics.recall_score(labels, predicted, average=None).min())


def test_joint_coherence_by_hand():
    found = joint_coherence(
        {"image": np.array([1, 2, 3, 3]), "text": np.array([1, 2, 3, 4]), "audio": torch.tensor([1, 0, 3, 4])}
    )
    low, high = wilson(2, 4)
    assert found == {
        "joint_coherence": 0.5,
        "joint_coherence_low": low,
        "joint_coherence_high": high,
        "classes": 2.0,
        "class_share_max": 0.5,
        "count": 4.0,
        "fields": 3.0,
    }


def test_a_model_that_always_makes_one_class_is_seen():
    always = np.full(50, 7)
    found = joint_coherence({"image": always, "text": always})
    assert (found["joint_coherence"], found["classes"], found["class_share_max"]) == (1.0, 1.0, 1.0)
    never = joint_coherence({"image": always, "text": always + 1})
    assert (never["joint_coherence"], never["classes"], never["class_share_max"]) == (0.0, 0.0, 0.0)


def test_the_clip_score_by_hand():
    made = np.array([[3.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    wanted = np.array([[2.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = clip_score(torch.tensor(made), wanted, "own CLIP, 20 epochs")
    assert found.figures == {"clip_score": pytest.approx(100 * (1 + 0.5**0.5 + 0) / 3)}
    assert (found.network, found.width, found.count, found.reference_count) == ("own CLIP, 20 epochs", 2, 3, 3)
    assert clip_score(made[:1], wanted[:1], "own", scale=2.5).figures["clip_score"] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coherence(np.zeros(0, int), np.zeros(0, int)), "0 predictions"),
        (lambda: joint_coherence({"image": np.zeros(3, int)}), "image: 3"),
        (lambda: joint_coherence({}), "given were none"),
        (lambda: joint_coherence({"image": np.zeros(0, int), "text": np.zeros(0, int)}), "image: 0, text: 0"),
        (lambda: clip_score(np.zeros((2, 3)), np.ones((2, 3)), "own"), "2 pairs hold an embedding of length 0"),
        (lambda: clip_score(np.ones((2, 3)) * np.inf, np.ones((2, 3)), "own"), "of the made items"),
        (lambda: clip_score(np.ones((2, 3)), np.ones((2, 3)), " "), "no name"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(InvalidValue, match=message):
        call()


def test_shapes_that_do_not_fit_are_refused():
    """Asked of the plain functions: under the shape checks of the tests the wrong shapes would not get that far."""
    with pytest.raises(InvalidValue, match="3 predictions and 2 labels"):
        getattr(coherence, "__wrapped__", coherence)(np.zeros(3, int), np.zeros(2, int))
    plain = getattr(joint_coherence, "__wrapped__", joint_coherence)
    with pytest.raises(InvalidValue, match="image: 3, text: 2"):
        plain({"image": np.zeros(3, int), "text": np.zeros(2, int)})
    with pytest.raises(InvalidValue, match="one pair per row"):
        getattr(clip_score, "__wrapped__", clip_score)(np.ones((2, 3)), np.ones((2, 4)), "own")
