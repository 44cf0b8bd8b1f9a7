"""Published VisualBERT folders, made with random weights, against the library that wrote them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.modalities.text import Text
from intermodal.modalities.timeseries import TimeSeries
from intermodal.saving import load_model, save_model
from intermodal.systems.visualbert import VisualBert
from intermodal.types import Batch
from tests import published, word_pieces

NUMBERS, LONGEST = 7, 14


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "visualbert"
    folder.mkdir()
    config = library.VisualBertConfig(
        vocab_size=len(word_pieces.PIECES),
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        visual_embedding_dim=NUMBERS,
        max_position_embeddings=LONGEST,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    network = published.shaken(library.VisualBertForPreTraining(config), 0.2)
    network.save_pretrained(folder)
    word_pieces.write(folder)
    return folder, network


def given(rows: int = 3) -> tuple[Batch, Batch]:
    """Returns random words and regions, some rows shorter than others."""
    ids = torch.randint(5, len(word_pieces.PIECES), (rows, 9))
    said = torch.arange(9) < torch.tensor([9, 4, 6])[:rows, None]
    shown = torch.arange(5) < torch.tensor([5, 5, 2])[:rows, None]
    return Batch(ids, said), Batch(torch.randn(rows, NUMBERS, 5), shown)


@pytest.mark.peer
def test_hidden_states_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    ours = load_model(folder)
    assert isinstance(ours, VisualBert)
    texts, regions = given()
    with torch.no_grad():
        theirs = network.visual_bert(
            input_ids=texts.values,
            attention_mask=texts.mask.long(),
            visual_embeds=regions.values.transpose(1, 2),
            visual_attention_mask=regions.mask.long(),
        )
        heads = network.cls(theirs.last_hidden_state, theirs.pooler_output)
        read = ours.read(texts, regions)
        told = ours.tell(read.tokens, ours.words.table.weight)
        match = ours.match(read.pooled)
    real = read.mask
    torch.testing.assert_close(read.tokens[real], theirs.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(read.pooled, theirs.pooler_output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(told[real], heads[0][real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(match, heads[1].flip(1), atol=1e-5, rtol=1e-5)  # published first: it matches
    assert float(theirs.last_hidden_state[real].std()) > 0.1


@pytest.mark.peer
def test_a_hidden_word_is_the_published_mask(made: tuple[Path, Any]) -> None:
    ours = load_model(made[0])
    texts, regions = given()
    hidden = torch.zeros_like(texts.mask)
    hidden[:, 2] = True
    shown = Batch(torch.where(hidden, ours.config.text.tokenizer.mask_id, texts.values), texts.mask)
    with torch.no_grad():
        torch.testing.assert_close(ours.read(texts, regions, hidden).tokens, ours.read(shown, regions).tokens)


@pytest.mark.peer
def test_it_scores_trains_and_is_saved_like_any_other(made: tuple[Path, Any], tmp_path: Path) -> None:
    ours = load_model(made[0])
    names = tuple(f"n{i}" for i in range(NUMBERS))
    generator = np.random.default_rng(0)
    regions = [TimeSeries(generator.normal(size=(NUMBERS, n)).astype(np.float32), names, 1.0) for n in (4, 2)]
    texts = [Text("a red house"), Text("the dog barks"), Text("Two cats?")]
    table = ours.score(regions, texts)
    assert table.shape == (2, 3)
    batch = {
        "regions": ours.preprocessors["regions"](regions),
        "text": ours.preprocessors["text"](texts[:2]),
    }
    assert set(ours.losses(batch)) == {"words", "matching"}
    save_model(tmp_path / "m", ours)
    assert torch.equal(load_model(tmp_path / "m").score(regions, texts), table)


@pytest.mark.peer
def test_folders_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    other = published.rewritten(folder, tmp_path / "bypass", "config.json", bypass_transformer=True)
    assert "bypass_transformer True; expected False" in published.refused(other)
    other = published.rewritten(folder, tmp_path / "heads", "config.json", num_attention_heads=5)
    assert "width 12 is no multiple of its 5 heads" in published.refused(other)
    (other / "vocab.txt").unlink()
    assert "put the vocab.txt of the BERT" in published.refused(other)
