"""The source as data: files and syntax trees, read once."""

import ast
import functools
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = ("hivectl", "mock_claude")


@functools.cache
def python_files(*tops: str) -> tuple[Path, ...]:
    return tuple(sorted(path for top in tops for path in (ROOT / top).rglob("*.py")))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def strings(*tops: str) -> Counter[str]:
    """How often each string constant stands in the files below `tops`."""
    return Counter(
        node.value
        for path in python_files(*tops)
        for node in nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@functools.cache
def calls(path: Path) -> tuple[tuple[str, ast.Call], ...]:
    """(dotted name, call) of every call."""
    return tuple(
        (ast.unparse(node.func), node) for node in nodes(path) if isinstance(node, ast.Call)
    )


def at(path: Path, node: ast.AST) -> str:
    return f"{name(path)}:{getattr(node, 'lineno', 0)}"
