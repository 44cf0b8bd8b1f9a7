"""The numbers of a server."""

import pytest

from intermodal.errors import InvalidValue
from intermodal.media.source import limited
from intermodal.serving.settings import Settings


def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    assert Settings().local
    assert Settings(host="::1").local
    assert not Settings(host="0.0.0.0").local


@pytest.mark.parametrize("wrong", [{"body_bytes": 0}, {"rate": -1.0}, {"port": 70_000}, {"queue": 0}, {"threads": -1}])
def test_a_limit_lets_something_through(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        Settings(**wrong)


def test_its_limits_of_media_are_limits_of_media() -> None:
    with limited(**Settings(pixels=123).media()) as now:
        assert now.pixels_max == 123
        assert now.bytes_max == Settings().body_bytes
