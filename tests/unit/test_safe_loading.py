"""No file from elsewhere can run code: every call that reads one is looked at in the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDERS = ("src", "workflow_scripts")
# What runs code that a file holds, whichever way it is called.
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"),
    *(
        "shelve.open",
        "joblib.load",
        "dill.load",
        "dill.loads",
        "cloudpickle.load",
        "cloudpickle.loads",
    ),
    *("pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load", "torch.package"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"),
    *("eval", "exec", "os.system", "os.popen", "runpy.run_path"),
    *("zipfile.extractall", "tarfile.extractall", "shutil.unpack_archive"),
}
FORBIDDEN_METHODS = {"extractall", "unpack_archive"}


def dotted(node: ast.AST) -> str:
    """ "np.load" of the expression np.load."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def problem_of(call: ast.Call) -> str:
    name = dotted(call.func)
    given = {word.arg: getattr(word.value, "value", "computed") for word in call.keywords}
    if name in FORBIDDEN or name.rpartition(".")[2] in FORBIDDEN_METHODS:
        return f"{name} is not safe"
    if name == "torch.load" and given.get("weights_only") is not True:
        return "torch.load without weights_only=True in so many words"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", False) is not False:
        return "np.load with allow_pickle"
    if name == "yaml.load" and "SafeLoader" not in ast.dump(call):
        return "yaml.load without SafeLoader"
    if given.get("shell", False) is not False:
        return f"{name} with a shell"
    return ""


def problems_in(source: str) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [f"line {call.lineno}: {problem_of(call)}" for call in calls if problem_of(call)]


def python_files(repository: Path) -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((repository / folder).rglob("*.py"))]


def test_every_call_that_reads_a_file_is_a_safe_one(repository):
    files = python_files(repository)
    assert len(files) > 60
    found = {str(path): problems_in(path.read_text(encoding="utf-8")) for path in files}
    assert {path: problems for path, problems in found.items() if problems} == {}
    loads = sum(path.read_text(encoding="utf-8").count("torch.load(") for path in files)
    assert loads >= 2  # the test looks at something


def test_no_module_that_unpickles_is_imported_under_another_name(repository):
    for path in python_files(repository):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom):
                assert module not in ("pickle", "marshal", "shelve", "joblib", "torch.hub"), path
                assert not (module == "torch" and any(n.name == "load" for n in names)), path
            if isinstance(node, ast.Import):
                assert not any(n.name in ("pickle", "torch") and n.asname for n in names), path


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, **options)",
        "torch.load(path, weights_only=safe)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trust)",
        "pickle.load(file)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "joblib.load(path)",
        "eval(text)",
        "tar.extractall(folder)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_an_unsafe_call_would_be_seen(source):
    assert problems_in(source)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "np.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "subprocess.run(command)",
    ],
)
def test_a_safe_call_is_none(source):
    assert not problems_in(source)
