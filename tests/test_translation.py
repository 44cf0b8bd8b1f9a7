"""Ways between fields: which is found, what is said where there is none, and what comes out at its end."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, Unsupported
from intermodal.evaluation.scenes import read_back, translation_accuracy
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.translation import STEPS_MAX, by_way_of, complete, field_of, find_way, modality_of, translate, ways
from intermodal.types import Completes, Translates
from tests.translators import ALL, Completer, Oracle, recolour

SOURCE = Diorama("test", size=12)
SAMPLES = SOURCE.samples(range(12))
TRUTH = list(SOURCE.scenes(range(12)))


def fields(way):
    return [way[0].source, *(step.to for step in way)]


def test_the_fakes_keep_the_protocols():
    assert isinstance(Oracle(), Translates)
    assert not isinstance(Oracle(), Completes)
    assert isinstance(Completer(), Completes)


def test_a_direct_direction_wins_whatever_stands_before_it():
    model = Oracle([("text", "image"), ("image", "audio"), ("text", "audio")])
    assert fields(find_way(model, "text", "audio")) == ["text", "audio"]
    chained = Oracle([("text", "image"), ("image", "audio")])
    way = find_way([chained, Oracle([("text", "audio")], name="direct")], "text", "audio")
    assert [(step.model, step.name) for step in way] == [(1, "direct")]


def test_of_equally_long_ways_the_first_in_the_order_given_is_taken():
    directions = [("text", "image"), ("text", "video"), ("video", "audio"), ("image", "audio")]
    assert fields(find_way(Oracle(directions), "text", "audio")) == ["text", "image", "audio"]
    directions[0], directions[1] = directions[1], directions[0]
    assert fields(find_way(Oracle(directions), "text", "audio")) == ["text", "video", "audio"]
    by_picture = Oracle([("text", "image"), ("image", "audio")], name="picture")
    by_video = Oracle([("text", "video"), ("video", "audio")], name="video")
    assert {step.name for step in find_way([by_video, by_picture], "text", "audio")} == {"video"}
    assert {step.name for step in find_way([by_picture, by_video], "text", "audio")} == {"picture"}


def test_three_steps_at_most():
    line = Oracle(list(itertools.pairwise("abcde")))
    assert fields(find_way(line, "a", "d")) == list("abcd")
    with pytest.raises(Unsupported, match="no way from 'a' to 'e' in at most 3 steps"):
        find_way(line, "a", "e")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=14))
def test_a_way_is_as_short_as_any_and_made_of_directions(directions):
    found = ways(Oracle(directions), "a")
    for to in "abcdef":
        # by trying every chain there is
        lengths = [
            len(chain) + 1
            for length in range(STEPS_MAX)
            for chain in itertools.product("bcdef" if to != "a" else "", repeat=length)
            if all(pair in directions for pair in itertools.pairwise(("a", *chain, to)))
        ]
        assert (to in found) == bool(lengths)
        if lengths:
            assert len(found[to]) == min(lengths)
            assert all((step.source, step.to) in directions for step in found[to])
            assert all(a.to == b.source for a, b in itertools.pairwise(found[to]))
    assert [len(way) for way in found.values()] == sorted(len(way) for way in found.values())


def test_a_field_back_to_itself_needs_a_direction_of_its_own():
    there_and_back = [("image", "text"), ("text", "image")]
    with pytest.raises(Unsupported, match="no way from 'image' to 'image'"):
        find_way(Oracle(there_and_back), "image", "image")
    assert len(find_way(Oracle([*there_and_back, ("image", "image")]), "image", "image")) == 1


def test_no_way_lists_what_can_be_reached():
    model = Oracle([("text", "image"), ("image", "audio"), ("video", "text")])
    with pytest.raises(Unsupported, match=r"these can be reached: image, audio \(by way of image\)$"):
        translate(model, [Text("a red circle")], "video")
    with pytest.raises(Unsupported, match="nothing is translated from 'timeseries'; give items of one of: text, image"):
        find_way(model, "timeseries", "text")
    with pytest.raises(Unsupported, match="model 2 does not translate"):
        ways([model, object()], "text")


def test_a_chain_through_two_models_says_which_way_it_went():
    painter = Oracle([("text", "image")], name="painter")
    player = Oracle([("image", "audio")], name="player")
    done = translate([player, painter], [sample["text"] for sample in SAMPLES], "audio")
    assert [(s.model, s.name, s.source, s.to) for s in done.way] == [
        (1, "painter", "text", "image"),
        (0, "player", "image", "audio"),
    ]
    assert by_way_of(done.way) == "image"
    (pictures,) = done.between
    assert [scene and scene.seen_by("image") for scene in read_back("image", pictures)] == [
        scene.seen_by("image") for scene in TRUTH
    ]
    # what the picture does not carry is lost, all the rest has arrived
    found = read_back("audio", done.items)
    assert translation_accuracy(TRUTH, found, "image", "audio")["scene_accuracy"] == 1.0
    moving = translation_accuracy(TRUTH, found, "text", "audio")
    still = sum(t.motion == 0 for scene in TRUTH for t in scene.things) / moving["objects"]
    assert moving["motion_accuracy"] == pytest.approx(still)


def test_candidates_come_best_first_with_scores_where_the_model_tells_them():
    items = [sample["text"] for sample in SAMPLES[:2]]
    sampling = Sampling(temperature=0.7, seed=3)
    done = translate(Completer(), items, "image", sampling=sampling, count=3)
    assert [[c.score for c in each] for each in done.candidates] == [[0.0, -0.5, -1.0]] * 2
    assert done.items == [each[0].item for each in done.candidates]
    assert read_back("image", [done.candidates[0][1].item])[0] == recolour(read_back("image", done.items)[0])
    plain = Oracle()
    done = translate(plain, items, "image", sampling=sampling, count=3)
    assert [len(each) for each in done.candidates] == [1, 1]
    assert all(math.isnan(each[0].score) for each in done.candidates)
    assert plain.calls == [{"source": "text", "to": "image", "items": 2, "sampling": sampling, "count": 3}]


def test_every_step_is_asked_for_the_candidates_and_passes_on_the_best():
    model = Completer([("text", "image"), ("image", "audio")])
    done = translate(model, [SAMPLES[0]["text"]], "audio", count=2)
    assert [(call["source"], call["to"], call["count"]) for call in model.calls] == [
        ("text", "image", 2),
        ("image", "audio", 2),
    ]
    assert translation_accuracy(TRUTH[:1], read_back("audio", done.items), "image", "audio")["scene_accuracy"] == 1.0


def test_nothing_or_a_mixture_is_refused():
    with pytest.raises(InvalidValue, match="the items are of no modality"):
        translate(Oracle(), [], "text")
    with pytest.raises(InvalidValue, match="0 items"):
        translate(Oracle(), [], "text", source="image")
    with pytest.raises(InvalidValue, match="the items are of image and text"):
        translate(Oracle(), [SAMPLES[0]["text"], SAMPLES[0]["image"]], "audio")
    with pytest.raises(InvalidValue, match="1 items and 0 candidates"):
        translate(Oracle(), [SAMPLES[0]["text"]], "audio", count=0)


class Field:
    """As much of a preprocessor as says its modality."""

    def __init__(self, modality):
        self.modality = modality


def test_the_field_of_items_is_told_by_their_modality():
    sound = [SAMPLES[0]["audio"]]
    model = Oracle([("speech", "text"), ("text", "speech")])
    assert field_of([model], sound) == "audio"  # nothing says what speech is
    model.preprocessors = {"speech": Field("audio"), "text": Field("text")}  # type: ignore[attr-defined]
    assert field_of([model], sound) == "speech"
    assert field_of([model, Oracle(ALL)], sound) == "audio"  # there are two; the one named like the modality
    assert modality_of([model], "speech") == "audio"
    assert modality_of([Oracle()], "speech") is None
    assert modality_of([Oracle()], "video") == "video"


def test_a_sample_is_completed_from_all_its_fields():
    model = Completer()
    samples = [{"image": s["image"], "audio": s["audio"], "video": s["video"]} for s in SAMPLES[:3]]
    done = complete([Oracle(), model], samples, "text", count=2)
    assert read_back("text", done.items) == TRUTH[:3]
    assert [(s.model, s.source, s.to) for s in done.way] == [(1, "image + audio + video", "text")]
    assert [len(each) for each in done.candidates] == [2, 2, 2]


def test_what_cannot_be_completed_is_refused():
    sample = {"image": SAMPLES[0]["image"], "audio": SAMPLES[0]["audio"]}
    with pytest.raises(
        Unsupported, match="no model makes 'text' from image and audio: oracle takes one field at a time"
    ):
        complete([Oracle()], [sample], "text")
    picky = Completer([("image", "text")])
    picky.preprocessors = {"image": Field("image"), "text": Field("text")}  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match="one field at a time; oracle does not read audio"):
        complete([Oracle(), picky], [sample], "text")
    with pytest.raises(Unsupported, match="from image and audio: oracle does not write 'smell'"):
        complete(Completer(), [sample], "smell")
    with pytest.raises(InvalidValue, match="to make 'image', give other fields"):
        complete(Completer(), [sample], "image")
    with pytest.raises(InvalidValue, match="no field"):
        complete(Completer(), [{}], "image")
