"""The page of `lct diff`: two states of the results side by side. Compares nothing itself."""

from pathlib import Path
from typing import Any

from lct.report.images import Picture, picture
from lct.report.render import html
from lct.report.text import MINUS, NOT_GIVEN, exact, number


def page(difference: dict[str, Any], pictures: list[tuple[Path | None, Path | None]]) -> str:
    """HTML of what differs. `pictures`: per entry of its "samples", the file of either side, if it is here."""
    samples = [
        sample | {"pictures": [_picture(path, sample[side]) for side, path in zip(("old", "new"), paths, strict=True)]}
        for sample, paths in zip(difference["samples"], pictures, strict=True)
    ]
    cells = [_cell(cell) for cell in difference["cells"] if cell["state"] != "same"]
    same = len(difference["cells"]) - len(cells)
    return html("diff.html", page=difference | {"cells": cells, "same": same, "samples": samples})


def _picture(path: Path | None, name: str | None) -> Picture:
    if path is None:
        return Picture(name, missing="not here: neither in the workspace nor in DVC's cache" if name else "none")
    resolved = path.resolve()
    return picture(resolved.parent, resolved.name)


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    sides = {side: [_value(value) for value in cell[side]] for side in ("old", "new")}
    return {"id": cell["id"], "state": cell["state"], **sides, "difference": signed(cell["difference"])}


def _value(value: dict[str, Any]) -> str:
    place = f"seed {value['seed']}" + (f", sampling seed {value['draw']}" if value["draw"] else "")
    return f"{place}: {'not here' if value['value'] is None else exact(value['value'])}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    if value is None:
        return NOT_GIVEN
    text = number(abs(value))
    return text if value == 0 else f"{'+' if value > 0 else MINUS}{text}"
