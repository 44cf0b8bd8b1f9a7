"""Names are the files of a folder, and nothing else can be reached by name."""

from pathlib import Path

import pytest

import intermodal
from intermodal import catalog
from intermodal.errors import UnknownName
from intermodal.types import MODALITIES

PACKAGE = Path(intermodal.__file__).parent


@pytest.mark.parametrize("folder", catalog.CATALOGUED)
def test_names_are_the_files_in_order(folder: str) -> None:
    files = sorted(path.stem for path in (PACKAGE / folder).glob("*.py") if not path.stem.startswith("_"))
    assert list(catalog.names(folder)) == files
    assert files


def test_the_modalities_are_the_five() -> None:
    assert set(catalog.names("modalities")) == set(MODALITIES)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_module_is_had_by_its_name(modality: str) -> None:
    found = catalog.module("modalities", modality)
    assert found.__name__ == f"intermodal.modalities.{modality}"
    assert found.ITEM.modality == modality


@pytest.mark.parametrize("name", ["", "smell", "text.py", "../types", "__init__", "os", "text/../text", ".text"])
def test_a_name_that_is_no_file_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(UnknownName, match="there is no modality named") as caught:
        catalog.module("modalities", name)
    assert "timeseries" in str(caught.value)


def test_a_system_that_is_no_file_is_refused_as_a_system() -> None:
    with pytest.raises(UnknownName, match="there is no system named 'clap'"):
        catalog.module("systems", "clap")


@pytest.mark.parametrize("folder", ["layers", "cli", "..", ""])
def test_other_folders_are_no_catalogue(folder: str) -> None:
    with pytest.raises(UnknownName, match="there is no catalogued folder"):
        catalog.names(folder)
