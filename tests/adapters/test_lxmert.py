"""Published LXMERT folders, made with random weights, against the library that wrote them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from intermodal.saving import load_model, save_model
from intermodal.systems.lxmert import Lxmert
from intermodal.types import Batch
from tests import published, word_pieces

NUMBERS, ANSWERS = 7, ("yes", "no", "red")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    library = published.library()
    folder = tmp_path_factory.mktemp("published") / "lxmert"
    folder.mkdir()
    config = library.LxmertConfig(
        vocab_size=len(word_pieces.PIECES),
        hidden_size=12,
        num_attention_heads=3,
        intermediate_size=20,
        num_qa_labels=len(ANSWERS),
        num_object_labels=5,
        num_attr_labels=4,
        l_layers=2,
        x_layers=2,
        r_layers=1,
        visual_feat_dim=NUMBERS,
        max_position_embeddings=14,
    )
    torch.manual_seed(0)
    network = published.shaken(library.LxmertForPreTraining(config), 0.2)
    network.save_pretrained(folder)
    word_pieces.write(folder)
    (folder / "answers.txt").write_text("\n".join(ANSWERS) + "\n", "utf-8")
    return folder, network


def given() -> tuple[Batch, Batch]:
    """Returns random words and regions with boxes, some rows shorter than others."""
    ids = torch.randint(5, len(word_pieces.PIECES), (3, 9))
    said = torch.arange(9) < torch.tensor([9, 4, 6])[:, None]
    shown = torch.arange(5) < torch.tensor([5, 5, 2])[:, None]
    return Batch(ids, said), Batch(torch.cat((torch.randn(3, NUMBERS, 5), torch.rand(3, 4, 5)), dim=1), shown)


@pytest.mark.peer
def test_hidden_states_are_those_of_transformers(made: tuple[Path, Any]) -> None:
    folder, network = made
    ours = load_model(folder)
    assert isinstance(ours, Lxmert)
    texts, regions = given()
    with torch.no_grad():
        inputs = {
            "input_ids": texts.values,
            "attention_mask": texts.mask.long(),
            "visual_feats": regions.values[:, :NUMBERS].transpose(1, 2),
            "visual_pos": regions.values[:, NUMBERS:].transpose(1, 2),
            "visual_attention_mask": regions.mask.long(),
        }
        theirs, heads = network.lxmert(**inputs), network(**inputs)
        features = network.obj_predict_head(theirs.vision_output)["feat"]
        read = ours.read(texts, regions)
        close = {"atol": 1e-5, "rtol": 1e-5}
        torch.testing.assert_close(read.words[texts.mask], theirs.language_output[texts.mask], **close)
        torch.testing.assert_close(read.regions[regions.mask], theirs.vision_output[regions.mask], **close)
        torch.testing.assert_close(read.pooled, theirs.pooled_output, **close)
        told = ours.tell(read.words, ours.words.table.weight)
        torch.testing.assert_close(told[texts.mask], heads.prediction_logits[texts.mask], **close)
        torch.testing.assert_close(ours.match(read.pooled), heads.cross_relationship_score, **close)
        torch.testing.assert_close(ours.choose(read.pooled), heads.question_answering_score, **close)
        shown = ours.show_numbers(ours.show(read.regions))
        torch.testing.assert_close(shown[regions.mask], features[regions.mask], **close)
    assert float(theirs.vision_output[regions.mask].std()) > 0.1


@pytest.mark.peer
def test_answers_have_the_words_that_lie_beside(
    made: tuple[Path, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = made
    ours = load_model(folder)
    assert ours.config.answers == ANSWERS
    assert ours.answer({}, "is the house red?") in ANSWERS
    save_model(tmp_path / "m", ours)
    texts, regions = given()
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path / "m").read(texts, regions).pooled, ours.read(texts, regions).pooled)
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "answers.txt").unlink()
    assert load_model(bare).config.answers == ("answer 0", "answer 1", "answer 2")
    assert "does not say what its 3 answers are" in caplog.text
    (bare / "answers.txt").write_text("yes\n", "utf-8")
    assert "has 1 lines and the weights have 3 answers" in published.refused(bare)


@pytest.mark.peer
def test_folders_that_do_not_fit_are_told(made: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = made
    published.check_strict(folder, tmp_path)
    for name, value, told in (("task_qa", False, "task_qa False"), ("visual_pos_dim", 5, "visual_pos_dim 5")):
        other = published.rewritten(folder, tmp_path / name, "config.json", **{name: value})
        assert told in published.refused(other)
