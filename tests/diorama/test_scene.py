"""The world: valid scenes, stable draws, disjoint splits, keys of what a rendering tells."""

import itertools

import numpy as np
import pytest

from intermodal.diorama.scene import (
    ATTRIBUTES,
    CARRIES,
    CELLS,
    HELD_OUT,
    OBJECTS,
    SPLITS,
    Scene,
    Scenes,
    Thing,
    draw_scenes,
)
from intermodal.errors import InvalidValue, UnknownName

_ARRAYS = ("present", "shape", "colour", "size", "cell", "motion")
N = 6000


def _pairs(scenes: Scenes) -> set[tuple[int, int]]:
    return set(zip(scenes.shape[scenes.present].tolist(), scenes.colour[scenes.present].tolist(), strict=True))


@pytest.mark.parametrize("split", SPLITS)
def test_a_scene_is_the_same_alone_in_any_batch_and_in_any_order(split):
    ids = np.array([7, 0, 400, 7, 31])
    batch = draw_scenes(split, ids)
    for i, scene in zip(ids, batch, strict=True):
        assert draw_scenes(split, [i])[0] == scene
    backwards = draw_scenes(split, ids[::-1])
    for name in _ARRAYS:
        np.testing.assert_array_equal(getattr(backwards, name)[::-1], getattr(batch, name))
    assert list(draw_scenes(split, ids, seed=1)) != list(batch)


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_are_in_their_split_alone_and_valid(split):
    scenes = draw_scenes(split, range(500))
    for other in SPLITS:
        np.testing.assert_array_equal(scenes.belongs_to(other), other == split)
    assert (np.diff(scenes.present.astype(int), axis=1) <= 0).all()  # objects fill the first slots
    for name, options in ATTRIBUTES.items():
        values = getattr(scenes, name)
        assert values.min() == 0
        assert values.max() == len(options) - 1
        assert not values[~scenes.present].any()
    assert sum(len(scene.things) for scene in scenes) == scenes.present.sum()  # making a Scene checks the cells


def test_every_scene_is_in_exactly_one_split_in_the_promised_shares():
    drawn = [draw_scenes(split, range(N)) for split in SPLITS]
    for scenes in drawn:
        assert np.stack([scenes.belongs_to(split) for split in SPLITS]).sum(axis=0).tolist() == [1] * N
    # all scenes of one object: the hash alone must give the shares
    grid = itertools.product(range(9), range(6), range(8), range(2), range(5))
    every = Scenes.of([Scene((Thing(*values),)) for values in grid])
    novel = every.belongs_to("compositional")
    assert novel.mean() == len(HELD_OUT) / 48
    for split, share in {"train": 0.85, "dev": 0.05, "test": 0.10}.items():
        assert abs(every.belongs_to(split)[~novel].mean() - share) < 0.02


def test_held_out_pairs_are_only_in_the_compositional_split():
    for split in ("train", "dev", "test"):
        pairs = _pairs(draw_scenes(split, range(N)))
        assert not pairs & HELD_OUT
        assert len(pairs) == 48 - len(HELD_OUT)
    scenes = draw_scenes("compositional", range(N))
    assert _pairs(scenes) >= HELD_OUT
    assert all(any((t.shape, t.colour) in HELD_OUT for t in scene.things) for scene in scenes.take(range(300)))
    seen = [shape for shape, _ in HELD_OUT], [colour for _, colour in HELD_OUT]
    train = _pairs(draw_scenes("train", range(N)))
    assert set(seen[0]) <= {shape for shape, _ in train}
    assert set(seen[1]) <= {colour for _, colour in train}


def test_the_split_does_not_depend_on_the_order_of_the_objects():
    scenes = draw_scenes("train", range(500))
    for order in itertools.permutations(range(OBJECTS)):
        moved = Scenes(**{name: getattr(scenes, name)[:, list(order)] for name in _ARRAYS})
        assert moved.belongs_to("train").all()
        assert list(moved) == list(scenes)
    assert Scenes.of(list(scenes)).belongs_to("train").all()


def test_attributes_are_drawn_about_evenly():
    scenes = draw_scenes("train", range(N))
    for name, options in ATTRIBUTES.items():
        share = np.bincount(getattr(scenes, name)[scenes.present], minlength=len(options)) / scenes.present.sum()
        np.testing.assert_allclose(share, 1 / len(options), rtol=0.2)
    counts = np.bincount(scenes.present.sum(axis=1), minlength=4) / N
    kept = np.array([0, 0.10, 0.35, 0.55]) * (1 - len(HELD_OUT) / 48) ** np.arange(4)  # no object of a held-out pair
    np.testing.assert_allclose(counts, kept / kept.sum(), atol=0.02)
    assert len(set(scenes)) > 0.97 * N


def test_the_order_of_the_slots_tells_nothing_of_the_cells():
    scenes = draw_scenes("train", range(N))
    full = scenes.present.all(axis=1)
    first = scenes.cell[full].argmin(axis=1)
    np.testing.assert_allclose(np.bincount(first) / full.sum(), 1 / 3, atol=0.03)


def test_this_scene_is_drawn_for_ever():
    scene = draw_scenes("train", [0])[0]
    assert scene == draw_scenes("train", [5, 0])[1]
    assert str(scene) == (
        "small purple triangle at top centre moving left; small green circle at top right moving up; "
        "small white circle at bottom left moving down"
    )


def test_a_scene_sorts_its_things_and_refuses_impossible_ones():
    a, b = Thing(4, 0, 0, 0, 0), Thing(2, 1, 1, 1, 1)
    assert Scene((a, b)) == Scene((b, a))
    assert (a.row, a.column, CELLS[a.cell]) == (1, 1, "middle centre")
    for things in ((), (a, a), tuple(Thing(c, 0, 0, 0, 0) for c in range(4))):
        with pytest.raises(InvalidValue, match="1 to 3 objects in distinct cells"):
            Scene(things)
    with pytest.raises(UnknownName, match=r"'valid'.*compositional, dev, test, train"):
        draw_scenes("valid", [0])


def test_seen_by_keeps_what_all_fields_carry_and_no_more():
    thing = Thing(cell=5, shape=1, colour=2, size=1, motion=3)
    scene = Scene((thing, Thing(0, 4, 4, 0, 0)))
    assert Scene((thing,)).seen_by("image") == ((2, 2, 1, 1, 1),)  # colour column row shape size
    assert Scene((thing,)).seen_by("timeseries") == ((2, 3, 1, 1),)  # column motion row size
    assert Scene((thing,)).seen_by("image", "timeseries") == ((2, 1, 1),)
    assert scene.seen_by("audio", "image") == scene.seen_by("image", "audio")
    for name in ("shape", "colour", "size", "column", "row", "motion"):
        values = {"cell": 5, "shape": 1, "colour": 2, "size": 1, "motion": 3}
        changes = {"column": {"cell": 3}, "row": {"cell": 8}}.get(name, {name: 0})
        other = Scene((Thing(**(values | changes)), Thing(0, 4, 4, 0, 0)))
        for field, carried in CARRIES.items():
            assert (other.seen_by(field) != scene.seen_by(field)) == (name in carried)
