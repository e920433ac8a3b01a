"""Every error message of the project, read from its source: what docs/errors.md lists."""

import ast
from pathlib import Path

_HEAD = """# Error messages

Written by `lct errors`; do not edit. … stands for what varies. [troubleshooting.md](troubleshooting.md) explains the
common ones.
"""


def messages(package: Path) -> dict[str, list[str]]:
    """Module -> its messages that say what was expected and found, with … for each expression in them, sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        texts = {_text(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_raised(node)}
        listed = sorted(text for text in texts if "expected" in text)
        if listed:
            found[path.relative_to(package.parent).as_posix()] = listed
    return found


def _is_raised(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(isinstance(arg, ast.JoinedStr | ast.Constant) for arg in node.args)


def _text(node: ast.Call) -> str:
    parts = []
    for arg in node.args:
        for one in arg.values if isinstance(arg, ast.JoinedStr) else [arg]:
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                parts.append(one.value)
            elif isinstance(arg, ast.JoinedStr):
                parts.append("…")
    return " ".join("".join(parts).split())


def markdown(package: Path) -> str:
    """docs/errors.md."""
    lines = [_HEAD]
    for module, listed in messages(package).items():
        lines += [f"## {module}\n", *(f"- {text.replace('<', '&lt;')}" for text in listed), ""]
    return "\n".join(lines).rstrip() + "\n"
