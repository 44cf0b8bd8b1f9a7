"""The house as it stands keeps its rules."""

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import house_rules
import tree_rules
from house_rules import Source

ROOT = Path(__file__).parents[2]
PATHS = list(tree_rules.files(ROOT))
SOURCES = [Source(path, (ROOT / path).read_text("utf-8")) for path in PATHS if path.endswith(".py")]
MODULES = house_rules.modules_of(SOURCES)


def none(wrong: list[str]) -> None:
    """Fails with one line for each thing that is wrong."""
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def test_the_package_is_found() -> None:
    assert {"intermodal", "intermodal.types", "intermodal.diorama.scene"} <= set(MODULES)
    assert {"dev.py", "README.md", "tests/layout/test_layout.py", ".ci/run"} <= set(PATHS)


def test_folders_import_upwards_only() -> None:
    none(house_rules.wrong_order(MODULES))


def test_no_module_imports_itself_in_a_circle() -> None:
    none(house_rules.cycles(MODULES))


def test_files_functions_and_parameter_lists_are_short() -> None:
    none([line for source in SOURCES for line in house_rules.too_long(source)])


def test_folders_are_flat_and_known() -> None:
    none(tree_rules.misplaced(PATHS))


def test_reading_a_system_is_cheap() -> None:
    none(house_rules.too_costly(MODULES))


def test_what_need_not_be_read_is_asked_for_little() -> None:
    none(house_rules.beside_the_door(MODULES))


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    none(house_rules.heavy_at_top(MODULES))


def test_every_library_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {str(canonicalize_name(Requirement(line).name)) for line in lines}
    none(house_rules.undeclared(MODULES, declared, metadata.packages_distributions()))


def test_only_the_runtime_reads_the_environment() -> None:
    none(house_rules.environment_readers(MODULES))


def test_annotations_are_no_strings() -> None:
    none([line for source in SOURCES for line in house_rules.future_annotations(source)])


def test_nothing_is_pickled() -> None:
    none([line for source in MODULES.values() for line in house_rules.pickles(source)])


def test_catalogued_folders_hold_nothing_else() -> None:
    none(tree_rules.incomplete_catalogue(MODULES))


def test_tests_mirror_the_package() -> None:
    none(tree_rules.unmirrored(PATHS))


def test_no_text_speaks_of_one_machine_or_of_what_is_left_to_do() -> None:
    texts = {}
    for path in PATHS:
        raw = (ROOT / path).read_bytes()
        if b"\0" not in raw:
            texts[path] = raw.decode("utf-8", errors="replace")
    none(tree_rules.forbidden_words(texts))


def test_every_dependency_has_a_reason_and_no_upper_pin() -> None:
    none(tree_rules.unexplained_dependencies((ROOT / "pyproject.toml").read_text("utf-8")))


def needed_by(package: str, extras: set[str], found: dict[str, str]) -> dict[str, str]:
    """Returns the versions of everything that an installed package needs, and what that needs."""
    for line in metadata.requires(package) or []:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in {"", *extras})
        if wanted and name not in found:
            found[name] = metadata.version(name)
            needed_by(name, requirement.extras, found)
    return found


def test_constraints_pin_everything_that_is_needed() -> None:
    none(tree_rules.unpinned((ROOT / "constraints.txt").read_text("utf-8"), needed_by("intermodal", {"test"}, {})))


def test_public_names_are_sorted_and_complete() -> None:
    names, wrong = house_rules.public_names(MODULES["intermodal"])
    none(wrong)
    import intermodal

    none([f"intermodal.{name} is in __all__ and cannot be had" for name in names if not hasattr(intermodal, name)])
    values = {name: getattr(intermodal, name) for name in dir(intermodal) if not name.startswith("_")}
    public = [name for name, value in values.items() if not isinstance(value, ModuleType)]
    none([f"intermodal.{name} is public and not in __all__" for name in public if name not in names])


def modules_loaded_by(*arguments: str) -> set[str]:
    """Returns the modules that a fresh Python loads when it is run with ``arguments``."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 0, "\n".join(line for line in lines if not line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


HEAVY = {"torch", "lancedb", "lance", "pyarrow", "av", "sklearn", "scipy", "matplotlib", "transformers"}


@pytest.mark.parametrize(
    "arguments", [["-m", "intermodal", "--help"], ["-c", "import intermodal"]], ids=["help", "import"]
)
def test_starting_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = modules_loaded_by(*arguments)
    assert "intermodal" in loaded
    none([f"{json.dumps(arguments)} loads {name}" for name in sorted(loaded & HEAVY)])
