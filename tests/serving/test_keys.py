"""Keys and how often each may ask."""

from pathlib import Path

import pytest

from intermodal.errors import InvalidValue
from intermodal.serving.keys import Rates, from_file, from_words, new_key, who


def test_a_key_is_kept_as_a_hash_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    one, two = new_key(path, "alice"), new_key(path, "bob")
    assert one != two
    assert one not in path.read_text()
    assert len(one) > 40
    assert path.stat().st_mode & 0o077 == 0
    keys = from_file(path)
    assert who(keys, f"Bearer {one}") == "alice"
    assert who(keys, f"bearer {two}") == "bob"
    for wrong in ("", one, f"Basic {one}", f"Bearer {one}x", "Bearer ", "Bearer \udcff"):
        assert who(keys, wrong) is None
    with pytest.raises(InvalidValue, match="already"):
        new_key(path, "alice")
    with pytest.raises(InvalidValue, match="name of a key"):
        new_key(path, "a b")


def test_a_file_that_holds_something_else_is_refused_without_telling_what(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\n\nmy-secret-password\n")
    with pytest.raises(InvalidValue, match="line 3") as error:
        from_file(path)
    assert "password" not in str(error.value)
    with pytest.raises(InvalidValue, match="cannot be read"):
        from_file(tmp_path / "absent")


def test_keys_of_the_environment_are_long() -> None:
    (key,) = from_words(["0123456789abcdef", " "])
    assert who([key], "Bearer 0123456789abcdef") == "key1"
    with pytest.raises(InvalidValue, match="fewer than 16"):
        from_words(["short"])


def test_each_key_has_a_bucket_that_fills_up_in_time() -> None:
    rates = Rates(2.0, 3)
    assert [rates.wait("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert rates.wait("a", 0.0) == pytest.approx(0.5)
    assert rates.wait("b", 0.0) == 0
    assert rates.wait("a", 0.5) == 0
    assert rates.wait("a", 0.5) == pytest.approx(0.5)
    assert [rates.wait("a", 100.0) for _ in range(4)][:3] == [0, 0, 0]
    assert Rates(0.0, 1).wait("a") == 0
