"""The numbers that rendered files show, read back from them, to be compared with those they were made from."""

import csv
import io
import re
from pathlib import Path

from lct.report.text import anchor

_ROW = re.compile(r'<tr class="exact" id="(cell-[^"]+)">(.*?)</tr>', re.DOTALL)
_VALUE = re.compile(r"</span>&ensp;(?:<a [^>]*>)?([^<]+)")
_WORDS = {"∞": "inf", "−∞": "-inf", "—": "nan"}


def shown(folder: Path, cells: list[str]) -> dict[str, dict[str, list[float]]]:
    """Report file -> cell id -> every value it shows, for the files that exist. What is no number reads as NaN."""
    values: dict[str, dict[str, list[float]]] = {}
    table, page = folder / "tables.csv", folder / "numbers.html"
    if table.exists():
        lines = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8", errors="replace")))
        values[table.name] = {
            line["cell"]: [_number(v) for v in line["values"].split(";")] for line in lines if line.get("cell")
        }
    if page.exists():
        names = {f"cell-{anchor(cell)}": cell for cell in cells}
        rows = _ROW.findall(page.read_text(encoding="utf-8", errors="replace"))
        values[page.name] = {names[id_]: [_number(v) for v in _VALUE.findall(row)] for id_, row in rows if id_ in names}
    return values


def _number(text: str) -> float:
    try:
        return float(_WORDS.get(text.strip(), text.strip()))
    except ValueError:
        return float("nan")
