"""What names of files say of their rows, and how fields get other names."""

from pathlib import PurePath

import pytest

from intermodal.data.rows import asked_name, renamed, split_of
from intermodal.errors import InvalidData, UnknownName


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-000000.tar", "train"),
        ("cc3m_val_0001.tar", "dev"),
        ("Validation.parquet", "dev"),
        ("val2014.tar", "dev"),
        ("flickr.test.tar", "test"),
        ("test/000.tar", "test"),
        ("testing/valid-0.tar", "dev"),
        ("latest-contest.tar", "train"),
        ("my-test-files/0001.tar", "train"),
        ("0001.tar", "train"),
    ],
)
def test_a_split_is_a_word_of_the_file_or_a_whole_folder(path: str, split: str) -> None:
    assert split_of(PurePath(path)) == split


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/*.tar::image=img,text=left_txt", ("a/*.tar", {"image": "img", "text": "left_txt"})),
        ("a/*.tar", ("a/*.tar", {})),
        ("a::b/c.tar", ("a::b/c.tar", {})),
        ("owner/name@main#x::text=caption", ("owner/name@main#x", {"text": "caption"})),
    ],
)
def test_new_names_stand_at_the_end(name: str, found: tuple[str, dict[str, str]]) -> None:
    assert asked_name(name) == found


def test_fields_get_new_names() -> None:
    assert renamed({"img": "image", "t": "text"}, {"image": "img"}, "x") == {"img": "image", "t": "t"}
    with pytest.raises(UnknownName, match="field in x named 'pic'; use one of: img, t"):
        renamed({"img": "image", "t": "text"}, {"image": "pic"}, "x")
    with pytest.raises(InvalidData, match="two fields of x would be named 't'; give the other one a new name too"):
        renamed({"img": "image", "t": "text"}, {"t": "img"}, "x")
    assert renamed({"img": "image", "t": "text"}, {"t": "img", "u": "t"}, "x") == {"img": "t", "t": "u"}
