"""Fingerprints of registered functions: the code that a recipe number cannot stand for, since users write it.

A fingerprint is a hash of the source of a function and of everything in `lct` that it calls or reads, without comments,
docstrings and annotations. Sources are read, not imported. The losses that the project ships are pinned: only code that
differs from the pinned one enters a job's settings, so that new versions of the project plan nothing anew.
"""

import ast
import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.losses.robust import ROBUST

_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).resolve().parents[2]
_REGISTRATION = "robust"  # a decorator that changes nothing of the function

# Losses of this version. On purpose only: whoever changes one of them raises RECIPES["train"] and pins the new code.
SHIPPED = {
    "pseudo-huber": "f705dfad9ad18695",
    "cauchy": "2da819c100363d25",
    "geman-mcclure": "1b14ea30aa9da6e5",
}


def loss_code(*losses: str) -> dict[str, dict[str, str]]:
    """{"code": {loss: fingerprint}} of registered losses whose code is not the one pinned here; {} without any."""
    prints = {loss: fingerprint(ROBUST[loss]) for loss in losses if loss in ROBUST}
    changed = {loss: digest for loss, digest in sorted(prints.items()) if SHIPPED.get(loss) != digest}
    return {"code": changed} if changed else {}


def check_code(recorded: dict[str, str], loss: str) -> None:
    """Raise ValueError when the code of a loss is not `recorded`, that of the settings which a job was given."""
    where, same = f"--settings: code of loss {loss}", recorded == loss_code(loss).get("code", {})
    require(same, where, "the one that this job was planned with", "another, edited since", "start snakemake again")


def fingerprint(function: Callable[..., Any]) -> str:
    """16 hexadecimal digits for the code of a function of a module, and of what that calls or reads in `lct`."""
    function = inspect.unwrap(function)
    texts: dict[tuple[str, str], str] = {}
    _collect(Path(inspect.getfile(function)).resolve(), function.__qualname__.partition(".")[0], texts)
    return hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()[:16]


def _collect(path: Path, name: str, texts: dict[tuple[str, str], str]) -> None:
    """Add the source of a module's `name`, then that of every name in it which this project defines."""
    definitions, imports = _module(path, os.stat(path).st_mtime_ns)
    if name in imports and name not in definitions:
        origin, original = imports[name]
        if original is not None:
            _collect(origin, original, texts)
        return
    if (str(path), name) in texts or name not in definitions:
        return
    nodes = definitions[name]
    texts[str(path), name] = "\n".join(map(ast.unparse, nodes))
    for used, attribute in _names(nodes):
        origin, original = imports.get(used, (None, None))
        if attribute is not None and origin is not None and original is None:  # module.function
            _collect(origin, attribute, texts)
        else:
            _collect(path, used, texts)


def _names(nodes: list[ast.stmt]) -> Iterator[tuple[str, str | None]]:
    """(name, attribute read of it or None) of everything that some statements read, in the order of the text."""
    for node in (inner for statement in nodes for inner in ast.walk(statement)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, None


@functools.lru_cache(maxsize=64)
def _module(path: Path, _mtime_ns: int) -> tuple[dict[str, list[ast.stmt]], dict[str, tuple[Path, str | None]]]:
    """Of a source file: name -> its statements, and imported name -> (source file, name there; None: the module)."""
    tree = _Plain().visit(ast.parse(path.read_text(encoding="utf-8")))
    definitions: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        targets = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        for target in targets:
            definitions.setdefault(target, []).append(node)
    imports: dict[str, tuple[Path, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            package = _package(path, node)
            for alias in node.names:
                as_module, within = _source(f"{package}.{alias.name}"), _source(package)
                if as_module or within:
                    imports[alias.asname or alias.name] = (as_module, None) if as_module else (within, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname and (origin := _source(alias.name)):
                    imports[alias.asname] = (origin, None)
    return definitions, imports


def _package(path: Path, node: ast.ImportFrom) -> str:
    """The module that `from ... import` names; a relative one is counted from the file's own package."""
    if not node.level:
        return node.module or ""
    parts = path.relative_to(_ROOT).parts[: -node.level] if path.is_relative_to(_ROOT) else ()
    return ".".join((*parts, *([node.module] if node.module else [])))


@functools.cache
def _source(module: str) -> Path | None:
    """The source file of a module of `lct`; None for all others."""
    place = _ROOT.joinpath(*module.split("."))
    if module.split(".")[0] != _PACKAGE:
        return None
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)


class _Plain(ast.NodeTransformer):
    """Takes away what computes nothing: docstrings, annotations, the registration."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            node.decorator_list = [d for d in node.decorator_list if getattr(d, "id", None) != _REGISTRATION]
        elif isinstance(node, ast.arg):
            node.annotation = None
        return node
