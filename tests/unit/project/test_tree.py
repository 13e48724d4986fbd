"""What must not be in the tree: paths of a machine, registry addresses, unsafe loading, big files."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MAX_FILE_BYTES = 1 << 20
MAX_RECORDED_BYTES = 50_000

# Written in pieces, so that this file does not hold what it looks for.
REGISTRIES = "|".join(
    (
        "py" + r"pi\.org",
        "python" + r"hosted\.org",
        "registry" + r"\.n" + "pmjs",
        "deb" + r"\.debian" + r"\.org",
    )
)
MACHINE_PATHS = r"(?:^|[^\w./$}{-])/(?:" + "|".join(("wo" + "rk", "fa" + "rm", "ho" + "me", "ro" + "ot")) + r")/"
FORBIDDEN_TEXT = {
    "an address of a package registry": re.compile(REGISTRIES),
    "a path of one machine": re.compile(MACHINE_PATHS, re.MULTILINE),
}
PICKLE_MODULES = frozenset({"cPickle", "dill", "cloudpickle", "shelve", "marshal"})
SAFE_OF_PICKLE = frozenset({"dumps", "UnpicklingError"})  # writing, and the name of an error
EVALUATORS = frozenset({"eval", "exec"})


@pytest.fixture(scope="module")
def tree(repository: Path) -> list[Path]:
    """Every file of the working tree that git tracks or would add."""
    if not (repository / ".git").exists():
        pytest.skip(f"{repository} is not a git checkout, so nobody says which files belong to it")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    files = [repository / name for name in listed.split("\0") if name]
    return [path for path in files if path.is_file()]


def forbidden_text(text: str) -> Iterator[tuple[int, str]]:
    """(line number, what) for each forbidden piece of text."""
    for what, pattern in FORBIDDEN_TEXT.items():
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, what


def _keyword(call: ast.Call, name: str) -> object:
    """The constant given for a keyword argument of a call; None when absent or not a constant."""
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            value: object = keyword.value.value
            return value
    return None


def _forbidden_call(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    if name == "torch.load" and _keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True"
    if name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}:
        return name
    if name in EVALUATORS:
        return f"{name}()"
    if name == "os.system" or _keyword(call, "shell") is True:
        return "a command line given to a shell"
    if _keyword(call, "allow_pickle") is True:
        return "allow_pickle=True"
    return None


def _imported(node: ast.AST) -> set[str]:
    """Top-level names of the modules an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
        return {node.module.partition(".")[0]}
    return set()


def _forbidden_pickle(node: ast.AST, guarded: set[ast.expr]) -> str | None:
    """Whatever may read a pickle, but for an Unpickler whose class says what it finds."""
    if isinstance(node, ast.ImportFrom) and node.module == "pickle":
        return "names out of pickle"
    if isinstance(node, ast.Import) and any(alias.name == "pickle" and alias.asname for alias in node.names):
        return "pickle under another name"
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
        allowed = node.attr in SAFE_OF_PICKLE or (node.attr == "Unpickler" and node in guarded)
        return None if allowed else f"pickle.{node.attr}"
    return None


def _bases_with_find_class(tree: ast.AST) -> set[ast.expr]:
    return {
        base
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(item, ast.FunctionDef) and item.name == "find_class" for item in node.body)
        for base in node.bases
    }


def unsafe_code(source: str) -> Iterator[tuple[int, str]]:
    """(line number, what) for each unsafe import or call in Python source."""
    tree = ast.parse(source)
    guarded = _bases_with_find_class(tree)
    for node in ast.walk(tree):
        for module in sorted(_imported(node) & PICKLE_MODULES):
            yield getattr(node, "lineno", 0), f"import of {module}"
        if (what := _forbidden_pickle(node, guarded)) is not None:
            yield getattr(node, "lineno", 0), what
        if isinstance(node, ast.Call) and (what := _forbidden_call(node)) is not None:
            yield node.lineno, what


def environment_reads(source: str) -> Iterator[tuple[int, str]]:
    """(line number, what) for each use of the process's environment in Python source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in {"os.environ", "os.getenv"}:
            yield getattr(node, "lineno", 0), ast.unparse(node)


Check = Callable[[str], Iterator[tuple[int, str]]]


def findings(files: list[Path], repository: Path, check: Check) -> list[str]:
    """`path:line: what` for everything `check` finds in text files."""
    rows = []
    for path in files:
        data = path.read_bytes()
        if b"\0" in data:
            continue
        rows += [f"{path.relative_to(repository)}:{line}: {what}" for line, what in check(data.decode())]
    return rows


def test_no_file_names_a_registry_or_a_path_of_one_machine(tree: list[Path], repository: Path) -> None:
    assert findings(tree, repository, forbidden_text) == []


def test_nothing_loads_pickles_or_hands_text_to_an_interpreter(tree: list[Path], repository: Path) -> None:
    python = [path for path in tree if path.suffix == ".py"]
    assert python
    assert findings(python, repository, unsafe_code) == []


def test_the_core_reads_no_environment_variables(tree: list[Path], repository: Path) -> None:
    core = [p for p in tree if p.suffix == ".py" and p.is_relative_to(repository / "nasdet_core")]
    assert core
    assert findings(core, repository, environment_reads) == []


def test_no_file_is_larger_than_a_text_has_to_be(tree: list[Path], repository: Path) -> None:
    recorded = repository / "tests" / "golden" / "recorded"
    limits = {p: MAX_RECORDED_BYTES if p.is_relative_to(recorded) else MAX_FILE_BYTES for p in tree}
    too_large = [f"{p.relative_to(repository)}: {p.stat().st_size} bytes" for p in tree if p.stat().st_size > limits[p]]
    assert too_large == []


class TestTheChecksThemselves:
    """A check that finds nothing in a clean tree proves nothing: it must find what is planted."""

    @pytest.mark.parametrize(
        "text",
        [
            "see https://" + "py" + "pi.org/simple",
            "url = 'files.python" + "hosted.org'",
            "cd /wo" + "rk/main",
            "x: '/ho" + "me/jane/data'",
        ],
    )
    def test_planted_text_is_found(self, text: str) -> None:
        assert [line for line, _ in forbidden_text("first line\n" + text)] == [2]

    @pytest.mark.parametrize(
        "text", ["../shared/wo" + "rk/x", "${HOME}/wo" + "rk/", "/v1/searches", "$(HOME)/ro" + "ot"]
    )
    def test_relative_paths_and_routes_are_let_through(self, text: str) -> None:
        assert list(forbidden_text(text)) == []

    @pytest.mark.parametrize(
        "source",
        [
            "pickle.load(file)",
            "pickle.loads(data)",
            "pickle.Unpickler(file).load()",
            "class Reader(pickle.Unpickler): pass",
            "from pickle import loads",
            "import pickle as p",
            "import dill",
            "torch.load(path)",
            "torch.load(path, weights_only=False)",
            "yaml.load(text)",
            "subprocess.run('ls', shell=True)",
            "os.system('ls')",
            "eval('1')",
            "numpy.load(path, allow_pickle=True)",
        ],
    )
    def test_planted_code_is_found(self, source: str) -> None:
        assert [line for line, _ in unsafe_code("\n" + source)] == [2]

    @pytest.mark.parametrize(
        "source",
        [
            "torch.load(path, weights_only=True)",
            "model.eval()",
            "subprocess.run(['ls'])",
            "numpy.load(path)",
            "import pickle\ndata = pickle.dumps(1)",
            "class Reader(pickle.Unpickler):\n    def find_class(self, module, name): ...",
        ],
    )
    def test_safe_code_is_let_through(self, source: str) -> None:
        assert list(unsafe_code(source)) == []

    def test_a_planted_environment_variable_is_found(self) -> None:
        assert len(list(environment_reads("import os\nx = os.environ['HOME']"))) == 1
