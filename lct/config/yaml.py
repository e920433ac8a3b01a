"""Strict YAML: one mapping per file, no duplicate keys, and errors that name file, line and column."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

_SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast, where libyaml is


class _StrictLoader(_SAFE):
    """SafeLoader that refuses a key given twice; plain YAML would silently keep the last."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.MarkedYAMLError(problem="a key that is no text", problem_mark=key_node.start_mark)
        if key in keys:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        keys.add(key)
    return _SAFE.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(path: Path) -> dict[str, Any]:
    """The mapping in `path`; raises ValueError with one line on anything else."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 a SafeLoader
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected a YAML file, found nothing; create it or fix its name") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ValueError(f"{where}: expected YAML, found: {error.problem}; fix that line") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no such date, no such number, no UTF-8
        raise ValueError(
            f"{path}: expected YAML in UTF-8, found: {' '.join(str(error).split())}; fix the file"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected `key: value` lines, found {type(content).__name__}; fix the file")
    return content
