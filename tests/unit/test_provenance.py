"""The fingerprint changes with code, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_to_sound.provenance import changed_code, fingerprint_digest, stage_fingerprint


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "vision_to_sound"
    (package / "kinds").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Package."""\n')
    (package / "a.py").write_text("def f():\n    from vision_to_sound import b\n    return b.X\n")
    (package / "b.py").write_text("X = 1\n")
    (package / "unused.py").write_text("Y = 1\n")
    (package / "hints.py").write_text("Z = 1\n")
    (package / "kinds" / "__init__.py").write_text(
        '__tables__ = ("KINDS",)\nKINDS: dict = {"one": "vision_to_sound.kinds.one:One"}\n\n'
        "def create(name):\n    return KINDS[name]\n"
    )
    (package / "kinds" / "one.py").write_text("from . import create\nfrom ..b import X\n")
    (package / "kinds" / "two.py").write_text("W = 1\n")
    scripts = tmp_path / "workflow_scripts"
    scripts.mkdir()
    (scripts / "run.py").write_text(
        "from typing import TYPE_CHECKING\nfrom vision_to_sound.a import f\n"
        "from vision_to_sound.kinds import create\n"
        "if TYPE_CHECKING:\n    from vision_to_sound.hints import Z\n"
    )
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "audio.yaml").write_text("# note\ndependencies:\n  - numpy=1\n")
    return tmp_path


def fingerprint(project: Path, *modules: str) -> dict[str, str]:
    return stage_fingerprint(
        project / "workflow_scripts" / "run.py",
        source_root=project / "src",
        modules=modules,
        env_file=project / "envs" / "audio.yaml",
    )


def edit(project: Path, name: str, old: str, new: str) -> None:
    path = project / "src" / "vision_to_sound" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def test_closure_follows_imports_inside_functions_and_leaves_out_type_checking(project):
    assert set(fingerprint(project)) == {
        "script:run.py",
        "env:audio.yaml",
        "vision_to_sound",
        "vision_to_sound.a",
        "vision_to_sound.b",
        "vision_to_sound.kinds",
    }


def test_named_module_and_its_relative_imports_are_followed(project):
    assert "vision_to_sound.kinds.one" in fingerprint(project, "vision_to_sound.kinds.one")
    edit(project, "a.py", "from vision_to_sound import b\n    return b.X", "return 1")
    assert "vision_to_sound.b" not in fingerprint(project)
    assert "vision_to_sound.b" in fingerprint(project, "vision_to_sound.kinds.one")


def test_an_edit_names_the_module_and_editing_back_restores(project):
    before = fingerprint(project)
    edit(project, "b.py", "X = 1", "X = 2")
    assert differing(before, fingerprint(project)) == {"vision_to_sound.b"}
    edit(project, "b.py", "X = 2", "X = 1")
    assert fingerprint(project) == before


def test_comments_docstrings_blank_lines_and_formatting_do_not_count(project):
    before = fingerprint(project)
    edit(project, "b.py", "X = 1", '"""New docstring."""\n\n\nX = (\n    1  # a comment\n)')
    edit(project, "a.py", "def f():\n", 'def f():\n    """Docstring."""\n')
    (project / "envs" / "audio.yaml").write_text("dependencies: # other note\n\n  - numpy=1\n")
    assert fingerprint(project) == before


def test_unimported_modules_do_not_count(project):
    before = fingerprint(project)
    edit(project, "unused.py", "Y = 1", "Y = 2")
    edit(project, "hints.py", "Z = 1", "Z = 2")
    edit(project, "kinds/two.py", "W = 1", "W = 2")
    assert fingerprint(project) == before


def test_rows_of_a_declared_table_do_not_count_but_other_code_of_its_module_does(project):
    before = fingerprint(project)
    edit(project, "kinds/__init__.py", '"one":', '"two": "vision_to_sound.kinds.two:Two", "one":')
    assert fingerprint(project) == before
    edit(project, "kinds/__init__.py", "return KINDS[name]", "return KINDS.get(name)")
    assert differing(before, fingerprint(project)) == {"vision_to_sound.kinds"}


def test_env_file_counts(project):
    before = fingerprint(project)
    (project / "envs" / "audio.yaml").write_text("dependencies:\n  - numpy=2\n")
    assert differing(before, fingerprint(project)) == {"env:audio.yaml"}


def test_plumbing_does_not_count(project):
    package = project / "src" / "vision_to_sound"
    (package / "stage.py").write_text("LEVEL = 1\n")
    edit(project, "b.py", "X = 1", "from vision_to_sound.stage import LEVEL\nX = 1")
    before = fingerprint(project)
    (package / "stage.py").write_text("LEVEL = 2\n")
    assert fingerprint(project) == before and "vision_to_sound.stage" not in before


def test_missing_module_is_an_error(project):
    with pytest.raises(FileNotFoundError, match="vision_to_sound.kinds.three"):
        fingerprint(project, "vision_to_sound.kinds.three")


def test_place_of_the_repository_does_not_count(project, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "copy"
    before = fingerprint(project)
    project.rename(moved)
    assert fingerprint(moved) == before


def test_changed_code_names_what_changed_since(project):
    known = fingerprint(project, "vision_to_sound.kinds.one")
    where = {"script_directory": project / "workflow_scripts", "source_root": project / "src"}
    assert changed_code(known, **where) == []
    edit(project, "b.py", "X = 1", "X = 3")
    (project / "src" / "vision_to_sound" / "kinds" / "one.py").unlink()
    assert changed_code(known, **where) == ["vision_to_sound.b", "vision_to_sound.kinds.one"]


def test_digest_depends_on_every_entry():
    assert fingerprint_digest({"a": "1", "b": "2"}) == fingerprint_digest({"b": "2", "a": "1"})
    assert fingerprint_digest({"a": "1", "b": "2"}) != fingerprint_digest({"a": "2", "b": "1"})
