"""Packages, functions and docstrings have the shape that CONTRIBUTING.md asks for."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "megavit"
MAX_MODULES = 15
MAX_POSITIONAL = 5

LARGE_FOLDERS = {"cli/commands", "weights/pretrained/mappings"}  # a verb each, a table for each library

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def public(body: list[ast.stmt]) -> Iterator[Documented]:
    """Yield classes, functions and methods whose names begin with a letter."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def test_no_function_has_more_than_five_positional_parameters() -> None:
    found = set()
    for module, tree in modules():
        for name, function in functions(tree):
            names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
            if len(names) - (names[:1] in (["self"], ["cls"])) > MAX_POSITIONAL:
                found.add(f"{module}:{name}")
    assert found == set()


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    crowded = {
        str(folder.relative_to(SOURCE))
        for folder in folders
        if len([path for path in folder.glob("*.py") if not path.stem.startswith("__")]) > MAX_MODULES
    }
    assert crowded <= LARGE_FOLDERS


def test_every_package_says_what_is_in_it() -> None:
    silent = {
        module
        for module, tree in modules()
        if module.endswith("__init__.py")
        and (not (said := ast.get_docstring(tree) or "").partition("\n")[0].endswith(".") or said.startswith("TODO"))
    }
    assert silent == set()


def test_public_docstrings_begin_with_a_sentence() -> None:
    found = set()
    for module, tree in modules():
        said = [ast.get_docstring(node) for node in (tree, *public(tree.body))]
        if any(text and not text.partition("\n\n")[0].rstrip().endswith((".", ":")) for text in said):
            found.add(module)
    assert found == set()
