"""Names that say how a value came about instead of what it is: `make lint` prints them, and fails above the limit.

Counts every binding in lct/: assignments, loop and comprehension targets, arguments, `as` names.
"""

import ast
import sys
from collections import Counter
from pathlib import Path

NAMES = {"found", "made", "known", "wanted", "said", "asked", "told", "looked", "seen", "one"}
LIMIT = 20


def bindings(tree: ast.AST) -> list[tuple[str, int]]:
    """(name, line) of every binding of a module."""
    names = [(n.id, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    names += [(n.arg, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.arg)]
    names += [(n.name, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name]
    functions = (ast.FunctionDef, ast.ClassDef)
    names += [(n.name, n.lineno) for n in ast.walk(tree) if isinstance(n, functions)]
    names += [
        (a.asname, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.asname
    ]
    return names


def main() -> int:
    places = [
        (name, f"{path}:{line}")
        for path in sorted(Path("lct").rglob("*.py"))
        for name, line in bindings(ast.parse(path.read_text()))
        if name.lstrip("_") in NAMES
    ]
    for name, place in places:
        print(f"{place}: {name}")
    total = Counter(name for name, _ in places)
    print(f"{sum(total.values())} bindings with such names (limit {LIMIT}): {dict(total.most_common())}")
    return int(sum(total.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
