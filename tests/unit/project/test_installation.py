"""The project installs what it imports, pins what it installs, and imports torch only where it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.requirements import ALL_EXTRAS, installed_closure

PACKAGES = ("nasdet_core", "services", "nasdet_client")
# Modules a process without torch starts with, and what must not come along.
TORCH_FREE_ENTRY_POINTS = (
    "nasdet_core.search_spaces",
    "nasdet_core.algorithms",
    "services.api.main",
    "services.searcher.main",
    "services.worker.supervisor",
    "nasdet_client.sdk",
    "nasdet_client.cli.main",
)


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    exact = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in exact}


def _declared(project: dict[str, Any]) -> Iterator[Requirement]:
    table = project["project"]
    for line in table["dependencies"]:
        yield Requirement(line)
    for lines in table["optional-dependencies"].values():
        yield from (Requirement(line) for line in lines)


def _third_party_imports(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES) - {"tests"}


def test_everything_installed_is_pinned_to_an_exact_version(pins: dict[str, str]) -> None:
    if "torch" not in {canonicalize_name(d.name) for d in metadata.distributions()}:
        pytest.skip("this environment has only some of the extras installed")
    assert sorted(set(installed_closure("nasdet", ALL_EXTRAS)) - set(pins)) == []


def test_pins_keep_within_the_declared_bounds(project: dict[str, Any], pins: dict[str, str]) -> None:
    declared = [r for r in _declared(project) if canonicalize_name(r.name) != "nasdet"]
    outside = [str(r) for r in declared if pins[canonicalize_name(r.name)] not in r.specifier]
    assert outside == []


def test_torch_and_torchvision_are_a_matching_pair(pins: dict[str, str]) -> None:
    # torchvision 0.N is built against torch 2.(N - 15).
    torch, torchvision = Version(pins["torch"]), Version(pins["torchvision"])
    assert (torch.major, torch.minor) == (2, torchvision.minor - 15)


def test_pins_are_names_and_versions_only(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text().splitlines()
    odd = [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+", line)]
    assert odd == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(repository: Path, project: dict[str, Any], package: str) -> None:
    declared = {canonicalize_name(r.name) for r in _declared(project)}
    owners = metadata.packages_distributions()
    undeclared = {
        name
        for name in _third_party_imports(repository / package)
        if not declared & {canonicalize_name(owner) for owner in owners.get(name, [name])}
    }
    assert undeclared == set()


@pytest.mark.parametrize("module", TORCH_FREE_ENTRY_POINTS)
def test_importing_it_does_not_import_torch(repository: Path, module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'torchvision', 'pycocotools'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_command_line_starts_without_core_and_services(repository: Path) -> None:
    code = "import sys, nasdet_client.cli.main; print(*sorted({'nasdet_core', 'services'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_every_file_that_is_no_module_is_package_data(repository: Path, project: dict[str, Any]) -> None:
    """An installed wheel must hold what the code reads beside itself: presets, templates, markers."""
    patterns = project["tool"]["setuptools"]["package-data"]
    missing = []
    for package in PACKAGES:
        covered = {path for pattern in patterns[package] for path in (repository / package).glob(pattern)}
        for path in (repository / package).rglob("*"):
            if path.is_file() and path.suffix not in {".py", ".pyc"} and path not in covered:
                missing.append(str(path.relative_to(repository)))
    assert missing == []


def test_every_folder_with_modules_is_a_package(repository: Path) -> None:
    """setuptools leaves out folders without __init__.py, so an installed wheel would miss them."""
    folders = {path.parent for package in PACKAGES for path in (repository / package).rglob("*.py")}
    assert sorted(str(f.relative_to(repository)) for f in folders if not (f / "__init__.py").exists()) == []
