"""The error tree: what each is, and that a message says everything in one sentence."""

import inspect

import pytest

from intermodal import errors
from intermodal.errors import IntermodalError, InvalidValue, MissingExtra, UnknownName

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]


def test_every_error_is_of_this_package_and_drawn_in_the_tree() -> None:
    assert len(CLASSES) == 9
    for cls in CLASSES:
        assert issubclass(cls, IntermodalError)
        assert cls.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("UnreadableMedia", ValueError),
        ("InvalidValue", ValueError),
        ("InvalidData", ValueError),
        ("InvalidCheckpoint", ValueError),
        ("Unsupported", TypeError),
        ("StoreError", RuntimeError),
        ("MissingExtra", ImportError),
    ],
)
def test_callers_may_catch_the_builtin_that_it_is(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_unknown_name_lists_what_there_is_in_order() -> None:
    error = UnknownName("system", "clap", ["flamingo", "clip"])
    assert str(error) == "there is no system named 'clap'; use one of: clip, flamingo"
    assert isinstance(error, InvalidValue)
    assert str(UnknownName("split", "x", [])).endswith("use one of: (none)")


def test_missing_extra_says_the_command() -> None:
    message = str(MissingExtra("espeakng_loader", "speech", "speaking a sentence"))
    assert message == "speaking a sentence needs the package 'espeakng_loader': run  pip install 'intermodal[speech]'"
