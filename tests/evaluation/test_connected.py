import numpy as np
import torch

from intermodal.data.features import Features
from intermodal.decoders.projection import Head
from intermodal.evaluation.connected import mean_recall, recalls, vectors_of
from intermodal.systems.connected import Config, Given
from intermodal.training.heads import Split, heads_over, looked_at


def test_recalls_are_those_counted_by_hand_and_captions_of_a_group_are_all_right() -> None:
    config = Config({"image": Given("image", 5), "text": Given("text", 4)}, width=8)
    model = heads_over(config)
    drawn = torch.Generator().manual_seed(1)
    image = Features(torch.randn(9, 5, generator=drawn).half(), torch.arange(10), torch.arange(9))
    text = Features(torch.randn(18, 4, generator=drawn).half(), torch.arange(19), torch.arange(9).repeat_interleave(2))
    groups = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 7])
    found = recalls(model, Split({"image": image, "text": text}, groups))
    a, b = vectors_of(model, "image", image), vectors_of(model, "text", text)
    assert np.allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
    best, labels = (a @ b.T).argmax(axis=1), groups[text.owner].numpy()
    assert found["image>text"]["recall_at_1"] == float(np.mean(labels[best] == groups.numpy()))
    best = (b @ a.T).argmax(axis=1)
    assert found["text>image"]["recall_at_1"] == float(np.mean(groups.numpy()[best] == labels))
    assert mean_recall(found) == np.mean([one["recall_at_1"] for one in found.values()])
    assert mean_recall({}) == 0


def test_tokens_that_no_head_gathers_are_left_out_and_change_nothing() -> None:
    towers = {"image": Given("image", 5, 2), "text": Given("text", 4)}
    drawn = torch.Generator().manual_seed(1)
    image = Features(torch.randn(9 * 3, 5, generator=drawn).half(), torch.arange(10) * 3, torch.arange(9))
    for queries, count in ((0, 2), (1, 3)):
        model = heads_over(Config(towers, Head(8, 0.0, queries), width=8))
        seen = looked_at(model.config, {"image": image})["image"]
        assert len(seen.rows) == 9 * count
        assert np.allclose(vectors_of(model, "image", seen), vectors_of(model, "image", image), atol=1e-6)
