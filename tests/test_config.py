from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from intermodal import catalog
from intermodal.config import from_dict, override, parts_of, to_dict
from intermodal.errors import InvalidCheckpoint, InvalidValue, UnknownName
from intermodal.modalities.image import ImagePreprocessor
from intermodal.types import Preprocessor


@dataclass(frozen=True)
class Inner:
    width: int = 4
    sizes: tuple[int, ...] = (1, 2)
    rate: float | None = None
    on: bool = False


@dataclass(frozen=True)
class Other:
    width: int = 4


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    parts: Mapping[str, Inner] = field(default_factory=dict)
    name: str = "x"
    preprocessor: Preprocessor | None = None
    other: Other | None = None


FULL = Outer(Inner(8, (3,), 0.5, True), {"a": Inner(), "b": Inner(2)}, "y", ImagePreprocessor(height=32, width=32))


def test_round_trip() -> None:
    assert from_dict(Outer, to_dict(FULL)) == FULL
    assert to_dict(FULL)["preprocessor"]["kind"] == "modalities/image"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nme": "x"}, "unknown keys nme; Outer has inner, parts, name"),
        ({"inner": {"width": "4"}}, "config.inner.width is '4'"),
        ({"inner": {"width": True}}, "config.inner.width is True"),
        ({"inner": 3}, "config.inner is 3"),
        ({"parts": {"a": {"depth": 1}}}, "config.parts.a has unknown keys depth"),
        ({"preprocessor": {"kind": "os/system"}}, "kind is 'os/system'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=message):
        from_dict(Outer, {**to_dict(Outer()), **change})


def test_kind_outside_the_catalogue_is_refused() -> None:
    with pytest.raises(UnknownName, match="'smell'"):
        from_dict(Outer, {"preprocessor": {"kind": "modalities/smell"}})


def test_override_by_dotted_path_reads_values_by_type() -> None:
    changed = override(
        FULL, {"inner.width": "16", "inner.sizes": "4,5", "parts.b.on": "yes", "inner.rate": "none", "name": "z"}
    )
    assert changed.inner == Inner(16, (4, 5), None, True)
    assert changed.parts["b"].on
    assert changed.name == "z"
    together = {"preprocessor.height": "28", "preprocessor.width": "28", "preprocessor.patch": "7"}
    assert override(FULL, together).preprocessor == ImagePreprocessor(height=28, width=28, patch=7)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"inner.widht": "3"}, UnknownName, "'widht'; use one of: on, rate, sizes, width"),
        ({"parts.c.width": "3"}, UnknownName, "'c'; use one of: a, b"),
        ({"inner.width": "wide"}, InvalidValue, "inner.width='wide' is no int"),
        ({"inner.on": "perhaps"}, InvalidValue, "inner.on='perhaps' is no bool"),
        ({"inner": "3"}, InvalidValue, "set one of its own fields"),
    ],
)
def test_override_explains_what_is_wrong(changes: dict[str, str], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        override(FULL, changes)


def test_a_whole_part_is_put_in_and_a_mapping_takes_a_new_one() -> None:
    made = override(FULL, {"parts.c": Inner(9), "inner": Inner(7), "other": Other(), "name": "z"})
    assert made == Outer(Inner(7), {**FULL.parts, "c": Inner(9)}, "z", FULL.preprocessor, Other())
    assert list(FULL.parts) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"parts.c": Other()}, InvalidValue, "parts.c is of type Inner; it takes no config of Other"),
        ({"inner.width": Other()}, InvalidValue, "inner.width is of type int; it takes no config of Other"),
        ({"preprocessor": Other()}, InvalidValue, "takes no config of Other"),
        ({"outer": Other()}, UnknownName, "'outer'; use one of: inner, name"),
        ({"parts.c.d": Inner()}, UnknownName, "'c'; use one of: a, b"),
        ({"inner": Inner(), "inner.width": "3"}, InvalidValue, "inner.width lies below a value that is set itself"),
    ],
)
def test_a_part_that_does_not_belong_there_is_refused(
    changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        override(FULL, changes)


def test_whole_systems_inside_a_config_are_found_by_their_paths() -> None:
    codec = catalog.module("systems", "codec").sized("tiny", {"image": "image"})
    assert parts_of(codec) == {}  # its codebook and its preprocessor are no systems
    assert parts_of({"a": {"codecs": {"image": codec, "photo": codec}}, "b": codec, "c": 1}) == {
        "a.codecs.image": codec,
        "a.codecs.photo": codec,
        "b": codec,
    }
