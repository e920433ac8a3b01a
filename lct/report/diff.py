"""The page of `lct diff`: two states of the results side by side. Compares nothing itself."""

from pathlib import Path
from typing import Any

from lct.report.images import Picture, picture
from lct.report.render import templates
from lct.report.text import MINUS, NOT_GIVEN, exact, number


def page(found: dict[str, Any], pictures: list[tuple[Path | None, Path | None]]) -> str:
    """HTML of what differs. `pictures`: per entry of found["samples"], the file of either side, if it is here."""
    samples = [
        one | {"pictures": [_picture(path, one[side]) for side, path in zip(("old", "new"), paths, strict=True)]}
        for one, paths in zip(found["samples"], pictures, strict=True)
    ]
    cells = [_cell(cell) for cell in found["cells"] if cell["state"] != "same"]
    same = len(found["cells"]) - len(cells)
    values = found | {"cells": cells, "same": same, "samples": samples}
    made = templates(autoescape=True)
    made.filters["short"] = short
    return made.get_template("diff.html.jinja").render(page=values)


def _picture(path: Path | None, name: str | None) -> Picture:
    if path is None:
        return Picture(name, missing="not here: neither in the workspace nor in DVC's cache" if name else "none")
    resolved = path.resolve()
    return picture(resolved.parent, resolved.name)


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    sides = {side: [_value(one) for one in cell[side]] for side in ("old", "new")}
    return {"id": cell["id"], "state": cell["state"], **sides, "difference": signed(cell["difference"])}


def _value(one: dict[str, Any]) -> str:
    place = f"seed {one['seed']}" + (f", draw {one['draw']}" if one["draw"] else "")
    return f"{place}: {'not here' if one['value'] is None else exact(one['value'])}"


def signed(value: float | None) -> str:
    """A difference with its sign."""
    if value is None:
        return NOT_GIVEN
    text = number(abs(value))
    return text if value == 0 else f"{'+' if value > 0 else MINUS}{text}"


def short(value: Any) -> str:
    """A setting's value, cut where it is long."""
    text = value if isinstance(value, str) else exact(value)
    return text if len(text) <= 120 else text[:117] + "..."
