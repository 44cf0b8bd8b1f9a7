import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.text import Text
from intermodal.systems.clip import Clip, Config, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Batch, Classifies, Embeds, Represents, Scores, Trains

SAMPLES = Diorama("train", size=64).samples(range(6))
WORDS = WordTokenizer(words=Diorama.vocabulary)


def config(fields: str = "text image", **changes: object) -> Config:
    made = sized("tiny", {name: name for name in fields.split()}, WORDS)
    return Config(**{**vars(made), **changes})  # type: ignore[arg-type]


def clip(fields: str = "text image", **changes: object) -> Clip:
    torch.manual_seed(0)
    return build(config(fields, **changes))


def test_it_can_what_it_says() -> None:
    model = clip()
    assert all(isinstance(model, kind) for kind in (Trains, Embeds, Scores, Classifies))


def test_loss_is_the_papers_figure_3_written_out() -> None:
    model = clip().eval()
    batch = batches(model, SAMPLES)
    a = model.vectors("text", batch["text"]).detach().double().numpy()
    b = model.vectors("image", batch["image"]).detach().double().numpy()
    logits = a @ b.T / 0.07
    total = 0.0
    for i in range(len(a)):
        total -= logits[i, i] - math.log(np.exp(logits[i]).sum())
        total -= logits[i, i] - math.log(np.exp(logits[:, i]).sum())
    found = model.losses(batch)["text-image"].detach().item()
    assert found == pytest.approx(total / (2 * len(a)), rel=1e-4)


def test_only_the_pairs_asked_for_are_trained() -> None:
    model = clip("text image timeseries", pairs="text")
    assert model.pairs == (("text", "image"), ("text", "timeseries"))
    assert set(model.losses(batches(model, SAMPLES))) == {"text-image", "text-timeseries"}
    assert clip("text image timeseries", pairs="image-timeseries").pairs == (("image", "timeseries"),)
    with pytest.raises(UnknownName, match="'sound'.*image, text"):
        config(pairs="text-sound")
    with pytest.raises(InvalidValue, match="name no pair"):
        config(pairs="text-text,image-image")


def test_a_pair_is_learnt_from_the_rows_that_have_both() -> None:
    model = clip("text image timeseries").eval()
    samples = [dict(s) for s in SAMPLES]
    del samples[0]["image"], samples[1]["image"], samples[2]["timeseries"]
    losses = model.losses(batches(model, samples))
    both = model.losses(batches(model, [s for s in samples if "image" in s]))["text-image"]
    torch.testing.assert_close(losses["text-image"], both)
    assert set(losses) == {"text-image", "text-timeseries", "image-timeseries"}


def test_a_pair_that_meets_in_one_row_or_none_has_no_loss() -> None:
    model = clip()
    assert model.losses(batches(model, [{"text": SAMPLES[0]["text"]}, {"image": SAMPLES[1]["image"]}])) == {}
    assert model.losses(batches(model, SAMPLES[:1])) == {}


def test_equal_texts_are_positives_of_each_other_in_every_pair() -> None:
    samples = [{**s, "text": Text("a small red circle")} for s in SAMPLES[:2]] + SAMPLES[2:]
    fields = "text image timeseries"
    batch = batches(clip(fields), samples)
    kept, plain = clip(fields).losses(batch), clip(fields, equal_texts=False).losses(batch)
    assert not torch.allclose(kept["image-timeseries"], plain["image-timeseries"])
    torch.testing.assert_close(kept["text-image"], plain["text-image"])  # equal texts have equal vectors
    swapped = {**batch, "image": batch["image"].rows(torch.tensor([1, 0, 2, 3, 4, 5]))}
    torch.testing.assert_close(
        clip(fields).losses(swapped)["image-timeseries"], kept["image-timeseries"], rtol=1e-4, atol=1e-5
    )
    sigmoid = {"objective": "sigmoid"}
    assert not torch.allclose(
        clip(**sigmoid).losses(batch)["text-image"], clip(equal_texts=False, **sigmoid).losses(batch)["text-image"]
    )


def test_losses_are_those_of_what_represents_the_rows() -> None:
    model = clip("text image timeseries").eval()
    samples = [dict(s) for s in SAMPLES]
    del samples[0]["image"], samples[3]["text"]
    batch = batches(model, samples)
    rows = model.represent(batch)
    assert isinstance(model, Represents)
    assert set(rows) == {f"{n}{what}" for n in model.preprocessors for what in ("", ".present")} | {"text.words"}
    assert all(len(found) == len(samples) for found in rows.values())
    halves = [model.represent({n: b.rows(torch.tensor(i)) for n, b in batch.items()}) for i in ([0, 1], [2, 3, 4, 5])]
    for name, value in rows.items():
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), value)
    for name, loss in model.losses(batch).items():
        assert torch.equal(loss, model.losses_of(rows)[name])


def test_words_are_equal_where_texts_are_whatever_the_padding() -> None:
    ids = torch.tensor([[1, 2, 3, 0], [1, 2, 3, 9], [3, 2, 1, 0], [1, 2, 0, 0], [2, 2, 2, 2]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool)
    found = Batch(ids, mask).keys()
    assert found[0] == found[1] == Batch(ids[:1, :3], mask[:1, :3]).keys()[0]
    assert len(torch.unique(found)) == 4
    assert bool((found >= 0).all())
    random = torch.randint(0, 50, (20_000, 8))
    distinct = len(torch.unique(random, dim=0))
    assert len(torch.unique(Batch(random, torch.ones_like(random, dtype=torch.bool)).keys())) == distinct


def test_sigmoid_form_has_its_bias() -> None:
    model = clip(objective="sigmoid")
    loss = model.losses(batches(model, SAMPLES))["text-image"]
    assert bool(loss.isfinite())
    assert set(model.biases) == {"text-image"}


def test_frozen_tower_keeps_its_weights_and_gets_no_gradient() -> None:
    made = config()
    towers = {**made.towers, "image": type(made.towers["image"])(**{**vars(made.towers["image"]), "frozen": True})}
    model = build(Config(towers=towers))
    torch.stack(list(model.losses(batches(model, SAMPLES)).values())).sum().backward()
    assert all(p.grad is None for p in model.encoders["image"].parameters())
    assert model.heads["image"].weight.grad is not None
    assert all(p.grad is not None for p in model.encoders["text"].parameters())


def test_embed_mixes_modalities_and_refuses_what_it_cannot_read() -> None:
    model = clip()
    rows = model.embed([SAMPLES[0]["image"], SAMPLES[0]["text"], SAMPLES[1]["image"]])
    torch.testing.assert_close(rows[1:2], model.embed([SAMPLES[0]["text"]]))
    with pytest.raises(Unsupported, match="no tower for audio; it reads image, text"):
        model.embed([SAMPLES[0]["audio"]])
    with pytest.raises(UnknownName, match="'speech'"):
        model.embed([SAMPLES[0]["text"]], fields="speech")


def test_score_is_the_cosine_and_classify_averages_prompts() -> None:
    model = clip()
    images, texts = [s["image"] for s in SAMPLES[:3]], [s["text"] for s in SAMPLES[:2]]
    torch.testing.assert_close(model.score(images, texts), model.embed(images) @ model.embed(texts).T)
    labels, prompts = ["circle", "star"], ["a {}", "a small {} in the centre"]
    found = model.classify(images, labels, prompts)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))
    means = torch.stack([model.embed([Text(p.replace("{}", name)) for p in prompts]).mean(dim=0) for name in labels])
    expected = (model.embed(images) @ F.normalize(means, dim=1).T / 0.07).softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InvalidValue, match="prompts with {}"):
        model.classify(images, labels, ["a thing"])


def test_centres_are_taken_off_before_normalising() -> None:
    model = clip()
    items = [s["image"] for s in SAMPLES]
    before = model.embed(items)
    centre = before.mean(dim=0)
    model.set_centres({"image": centre})
    torch.testing.assert_close(model.embed(items), F.normalize(before - centre, dim=1), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnknownName, match="'sound'"):
        model.set_centres({"sound": centre})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "nce"}, "'nce'.*info_nce, sigmoid"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"towers": {}}, "at least two towers, not 0"),
    ],
)
def test_config_explains_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        config(**changes)
