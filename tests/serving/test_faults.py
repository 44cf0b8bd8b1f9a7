"""Errors in one shape."""

import json
import logging

import pytest

from intermodal.errors import InvalidValue, StoreError, UnknownName, UnreadableMedia, Unsupported
from intermodal.serving.faults import Refused, as_refused, busy, response


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnreadableMedia("x is no picture"), 400, "unreadable_media"),
        (UnknownName("field", "x", ["y"]), 400, "unknown_name"),
        (InvalidValue("x is 1"), 400, "invalid_value"),
        (Unsupported("this model does not"), 400, "unsupported"),
        (StoreError("the library is"), 409, "store_error"),
        (Refused(404, "there is no", "not_found", "id"), 404, "not_found"),
    ],
)
def test_every_error_of_the_package_is_told_in_one_shape(error: Exception, status: int, code: str) -> None:
    answer = response(error)
    told = json.loads(bytes(answer.body))["error"]
    assert answer.status_code == status
    assert set(told) == {"message", "type", "param", "code"}
    assert (told["code"], told["message"]) == (code, str(error))


def test_what_nobody_foresaw_is_logged_and_told_without_its_contents(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        refused = as_refused(KeyError("a secret of somebody"))
    assert refused.status == 500
    assert "secret" not in refused.message
    assert caplog.records[0].exc_info is not None


def test_busy_says_when_to_come_back_in_whole_seconds() -> None:
    assert busy("later", 0.2).headers == {"Retry-After": "1"}
    assert busy("later", 2.1).headers == {"Retry-After": "3"}
    assert busy("stopping", 5, 503).status == 503
