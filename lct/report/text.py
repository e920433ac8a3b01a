"""Numbers as words, and the escaping of words in each output format.

One number is written the same way in every format; full precision stays in the CSV and behind the number.
"""

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

NOT_GIVEN = "\N{EM DASH}"  # a dash in print
QUANTITIES = {  # key in curves.json -> title
    "loss": "Training loss",
    "c": "Robustness constant c",
    "residual_rms": "Residual, RMS",
    "intervals": "Discretisation intervals",
    "gradient_norm": "Gradient norm",
}
MINUS, PLUS_MINUS, INFINITY = "\N{MINUS SIGN}", "\N{PLUS-MINUS SIGN}", "\N{INFINITY}"


def number(value: Any) -> str:
    """A measured number: two decimals, or two significant digits where those would show nothing of it."""
    x = float(value)
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return INFINITY if x > 0 else MINUS + INFINITY
    if abs(x) >= 1e6:
        text = f"{x:.3e}"
    elif x == 0 or abs(x) >= 0.1:
        text = f"{x:.2f}"
    elif abs(x) >= 1e-5:
        text = f"{x:.{1 - math.floor(math.log10(abs(x)))}f}"
    else:
        text = f"{x:.1e}"
    return text.replace("-", MINUS)


def signed(value: Any) -> str:
    """A difference, with its sign."""
    text = number(value)
    return text if text.startswith(MINUS) or text == "NaN" else f"+{text}"


def exact(value: Any) -> str:
    """All digits: the shortest decimal that reads back as the same float."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: NOT_GIVEN}[value]
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else number(value)
    return str(value)


def short(value: Any) -> str:
    """A setting's value, cut where it is long."""
    text = value if isinstance(value, str) else exact(value)
    return text if len(text) <= 120 else text[:117] + "..."


def count(value: int | None) -> str:
    """A whole number with thin groups from five digits on."""
    if value is None:
        return NOT_GIVEN
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if abs(value) >= 10_000 else str(value)


def printed(value: float | None) -> str:
    """A published number, with the two decimals of print."""
    return NOT_GIVEN if value is None else f"{value:.2f}"


def ordinal(k: int) -> str:
    """A whole number as a place in an order: 1st, 2nd, 11th."""
    tens = k % 100 // 10 == 1
    return f"{k}{'th' if tens else {1: 'st', 2: 'nd', 3: 'rd'}.get(k % 10, 'th')}"


def seed_name(seed: int, draw: int | None = None) -> str:
    """A training seed, with that of the sampling where it is not the first."""
    return f"seed {seed}" + (f", sampling seed {draw}" if draw else "")


def flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted key, plain value), in their own order."""
    if isinstance(value, dict) and value:
        return [
            pair for key, item in value.items() for pair in flatten(item, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list | tuple):
        if any(isinstance(item, dict) for item in value):
            return [pair for i, item in enumerate(value) for pair in flatten(item, f"{prefix}[{i}]")]
        return [(prefix, ", ".join(exact(item) for item in value) if value else "none")]
    return [(prefix, "none" if value == {} else exact(value))]


def anchor(name: str) -> str:
    """A name as an HTML id and URL fragment: what is not plain is spelled by its code point."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"_{ord(match.group()):x}_", name)


class Raw(str):
    """Text that is already in the output format."""


_MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$#]|^[-+=](?=\s|$)")  # the last starts a list or underlines
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def markdown(value: Any) -> str:
    """Any text inside a line or table cell of GitHub Markdown."""
    text = re.sub(r"\s+", " ", str(value))
    escaped = _MARKDOWN.sub(lambda match: _ENTITIES.get(match.group(), "\\" + match.group()), text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", escaped)  # "1. " would start a list


def markdown_code(value: Any) -> Raw:
    """Text as Markdown code, also inside a table cell."""
    text = " ".join(str(value).split())
    if "`" in text or "|" in text:  # no way to show these in a code span of a table
        return Raw(f"<code>{''.join(f'&#{ord(c)};' if c in '`|<>&*_[]~$' + chr(92) else c for c in text)}</code>")
    return Raw(f"`{text}`") if text else Raw("")


_TEXT_SYMBOLS = {"\\": "backslash", "^": "asciicircum", "~": "asciitilde", "<": "less", ">": "greater", "|": "bar"}
_TEXT_SYMBOLS |= {"\N{EM DASH}": "emdash", "\N{EN DASH}": "endash"}
_LATEX = {
    **{character: f"\\{character}" for character in "{}$&#%_"},
    # braces: "[" after a line end would start an option, two quotes or hyphens in a row would become one glyph
    **{character: f"{{{character}}}" for character in "[]`'-"},
    '"': "{''}",
    **{character: f"\\text{name}{{}}" for character, name in _TEXT_SYMBOLS.items()},
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{INFINITY}": r"$\infty$",
    "\N{DAGGER}": r"$^\dagger$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{MIDDLE DOT}": r"$\cdot$",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{NO-BREAK SPACE}": "~",
    "\N{LATIN SMALL LETTER SHARP S}": r"\ss{}",
    "\N{LATIN SMALL LETTER O WITH STROKE}": r"\o{}",
    "\N{LATIN CAPITAL LETTER O WITH STROKE}": r"\O{}",
    "\N{LATIN SMALL LETTER AE}": r"\ae{}",
    "\N{LATIN SMALL LETTER L WITH STROKE}": r"\l{}",
}
_ACCENTS = {0x300: "`", 0x301: "'", 0x302: "^", 0x303: "~", 0x304: "=", 0x307: ".", 0x308: '"', 0x30C: "v", 0x327: "c"}


def latex(value: Any) -> str:
    """Any text in LaTeX: metacharacters, accents, and a code point where a standard font has no glyph."""
    escaped = "".join(_latex_character(character) for character in re.sub(r"\s+", " ", str(value)))
    escaped = re.sub(r"(?<!\{([-'`])\})\{([-'`])\}(?!\{\2\})", r"\2", escaped)  # a single one needs no braces
    return re.sub(r"\{''\}(.*?)\{''\}", r"``\1''", escaped)  # two quotation marks make a pair


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character if character.isprintable() else " "
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and ord(parts[1]) in _ACCENTS:
        return f"\\{_ACCENTS[ord(parts[1])]}{{{parts[0]}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def finalizer(escape: Callable[[Any], str]) -> Callable[[Any], str]:
    """Jinja's last step for an expression: escape it unless it is marked as already in the format."""
    escaped = functools.cache(escape)
    return lambda value: value if isinstance(value, Raw) else escaped(str(value))


def thinned(length: int, most: int) -> Sequence[int]:
    """Places of at most `most` of so many points, evenly, the first and the last among them."""
    return range(length) if length <= most else sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})
