"""Content fingerprints: what code a stage runs, so that an edit reruns what it touches and nothing else.

Standard library only: the Snakefile imports this before any environment exists.

A stage's fingerprint is {module: hash} over its script and every module of the package in its import
closure, found by reading the source (imports inside functions too). Comments, docstrings, blank lines and
formatting do not count. Two kinds of import are left out on purpose: those under `if TYPE_CHECKING:`, which
never run, and tables. A registry module names its tables in `__tables__ = ("DETECTORS",)`; the rows of
such a table enter a rule through its settings, so that adding a detector reruns no other detector.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = "vision_to_sound"
# What runs a job but has no part in what it computes: a word in a log line is no reason to run again.
PLUMBING = frozenset({"vision_to_sound.stage", "vision_to_sound.provenance"})


def stage_fingerprint(
    script: Path, *, source_root: Path, modules: Iterable[str] = (), env_file: Path | None = None
) -> dict[str, str]:
    """Hash of every piece of the repository's code that a stage can run.

    script: the stage's script. source_root: the folder that holds the package. modules: modules that the
    stage loads by name (a registry holds strings, which source reading cannot follow). env_file: the
    conda environment of the rule. Returns {"script:NAME" | module | "env:NAME": 12 hex digits}, sorted.
    Raises FileNotFoundError for a module of the package that does not exist.
    """
    found: dict[str, str] = {f"script:{script.name}": _code_hash(script)}
    queue = [*_imports(script, source_root, module=""), *modules]
    while queue:
        module = queue.pop()
        if module in found or module in PLUMBING:
            continue
        path = _module_path(module, source_root)
        if path is None:
            raise FileNotFoundError(
                f"module {module} has no file under {source_root} (named by the stage {script.name})"
            )
        found[module] = _code_hash(path)
        queue.extend(_imports(path, source_root, module=module))
    if env_file is not None:
        found[f"env:{env_file.name}"] = _text_hash(env_file)
    return dict(sorted(found.items()))


def changed_code(
    fingerprint: dict[str, str], *, script_directory: Path, source_root: Path
) -> list[str]:
    """Names in the fingerprint whose file reads differently now; [] if nothing changed."""

    def hash_now(name: str) -> str | None:
        kind, _, rest = name.partition(":")
        if kind == "script":
            path: Path | None = script_directory / rest
        elif kind == "env":
            path = script_directory.parent / "envs" / rest
        else:
            path = _module_path(name, source_root)
        if path is None or not path.is_file():
            return None
        return _text_hash(path) if kind == "env" else _code_hash(path)

    return [name for name, known in fingerprint.items() if hash_now(name) != known]


def fingerprint_digest(fingerprint: dict[str, str]) -> str:
    """One short word for a whole fingerprint, as it is written into result files."""
    return hashlib.sha256(repr(sorted(fingerprint.items())).encode()).hexdigest()[:12]


def _code_hash(path: Path) -> str:
    return _code_hash_of(path.read_text(encoding="utf-8"), str(path))


@cache
def _code_hash_of(source: str, path: str) -> str:
    tree = ast.parse(source, filename=path)
    tables = _table_names(tree)
    tree.body = [node for node in tree.body if not _assigns_to(node, tables)]
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            node.body = body[1:]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def _text_hash(path: Path) -> str:
    lines = (line.split("#")[0].rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()[:12]


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _table_names(tree: ast.Module) -> frozenset[str]:
    for node in tree.body:
        if _assigns_to(node, frozenset({"__tables__"})):
            return frozenset(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return frozenset()


def _assigns_to(node: ast.AST, names: frozenset[str]) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return False
    return any(isinstance(target, ast.Name) and target.id in names for target in targets)


def _imports(path: Path, source_root: Path, *, module: str) -> set[str]:
    """Modules of the package that the file imports, with the packages above them."""
    source = path.read_text(encoding="utf-8")
    return set(_imports_of(source, str(path), str(source_root), module))


@cache
def _imports_of(source: str, path: str, source_root: str, module: str) -> frozenset[str]:
    names: set[str] = set()
    for node in _executed_nodes(ast.parse(source, filename=path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package=path.endswith("__init__.py"))
            names.add(base)
            # `from package import name`: the name may be a module or something inside the package.
            names.update(
                f"{base}.{alias.name}"
                for alias in node.names
                if _module_path(f"{base}.{alias.name}", Path(source_root)) is not None
            )
    own = {name for name in names if name == PACKAGE or name.startswith(PACKAGE + ".")}
    parents = {".".join(name.split(".")[:i]) for name in own for i in range(1, name.count(".") + 1)}
    return frozenset(own | parents)


def _executed_nodes(tree: ast.AST) -> Iterable[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield other
                yield from _executed_nodes(other)
            continue
        yield node
        yield from _executed_nodes(node)


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _module_path(module: str, source_root: Path) -> Path | None:
    if not module.startswith(PACKAGE):
        return None
    stem = source_root.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None
