"""Is this dict a `tables.json` of ours? The shape that every template relies on, checked before anything is rendered.

Keys beyond these are welcome: the shape only says what must be there.
"""

import json
from pathlib import Path
from typing import Any, NoReturn

import jsonschema

FORMAT = 1  # raised when the meaning of a key changes
STATUSES = ("complete", "partial", "half-finished", "failed", "not run", "quoted")
_REMEDY = "rebuild it with `snakemake`, or give the tables.json of this version"

_TEXT = {"type": "string"}
_OPTIONAL_TEXT = {"type": ["string", "null"]}
_OPTIONAL_NUMBER = {"type": ["number", "null"]}
_OPTIONAL_INTEGER = {"type": ["integer", "null"]}
# JSON has no NaN: a writer that keeps to the standard spells non-finite numbers as words
_METRIC_VALUE = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"]}]}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def _list(item: dict[str, Any], at_least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": at_least}


_VALUE = _object({"seed": {"type": "integer"}, "value": _METRIC_VALUE, "metrics": _TEXT, "sha256": _TEXT})
_CELL = _object(
    {
        "id": _TEXT,
        "values": _list(_VALUE),
        "n": {"type": "integer", "minimum": 0},
        "mean": {"anyOf": [_METRIC_VALUE, {"type": "null"}]},
        "sd": {"anyOf": [_METRIC_VALUE, {"type": "null"}]},
        "axis": _TEXT,
        "protocol": _TEXT,
    }
)
_PUBLISHED = _object(
    {"nfe": {"type": "integer"}, "fid": _OPTIONAL_NUMBER, "recall": _OPTIONAL_NUMBER},
    {"epochs": _OPTIONAL_INTEGER, "epochs_as_printed": _OPTIONAL_TEXT, "batch_size": _OPTIONAL_INTEGER},
)
_NEIGHBOUR = _object(
    {
        "image": {"type": "integer"},
        "distance": {"type": "number"},
        "radius": {"type": "number"},
        "same pixels": {"type": "boolean"},
    }
)
_SHOWN = _object({"image": {"type": "integer"}, "neighbours": _list(_NEIGHBOUR, at_least=1)})
_NEAREST = _object(
    {
        "seed": {"type": "integer"},
        "picture": _TEXT,
        "numbers": _object(
            {"extractor": _TEXT, "k": {"type": "integer"}, "reference": {"type": "integer"}, "images": _list(_SHOWN)}
        ),
    }
)
_ROW = _object(
    {
        "id": _TEXT,
        "group": _TEXT,
        "model": _TEXT,
        "status": {"enum": list(STATUSES)},
        "cells": {"type": "object", "additionalProperties": _CELL},
    },
    {
        "citation": _OPTIONAL_TEXT,
        "dagger": {"type": "boolean"},
        "quoted": {"type": "boolean"},
        "published": {"anyOf": [_PUBLISHED, {"type": "null"}]},
        "run": _OPTIONAL_TEXT,
        "sampler": _OPTIONAL_TEXT,
        "nfe": _OPTIONAL_INTEGER,
        "steps": _OPTIONAL_INTEGER,
        "batch": _OPTIONAL_INTEGER,
        "why": _OPTIONAL_TEXT,
        "extra": {"type": "object"},
        "samples": _list(_object({"grid": _OPTIONAL_TEXT})),
        "page": {"type": ["string", "null"], "pattern": r"^cells/[A-Za-z0-9_.-]+\.html$"},
        "weights": _OPTIONAL_TEXT,
        "weights_files": _list(_TEXT),
        "neighbours": _list(_NEAREST),
    },
)
_SUBTABLE = _object(
    {
        "id": _TEXT,
        "paper_dataset": _TEXT,
        "dataset": _OPTIONAL_TEXT,
        "protocols": _list(
            _object({"hash": _TEXT, "settings": {"type": "object"}}, {"line": _TEXT, "behind": {"type": "boolean"}})
        ),
        "rows": _list(_ROW, at_least=1),
    },
    {
        "dataset_title": _OPTIONAL_TEXT,
        "dataset_note": _OPTIONAL_TEXT,
        "resolution": _OPTIONAL_INTEGER,
        "floors": _list(_ROW),
        "reconstructions": {"anyOf": [_object({"grid": _OPTIONAL_TEXT}), {"type": "null"}]},
        "curves": _list(_object({"run": _TEXT, "path": _TEXT})),
        "outside": {"type": "object"},
    },
)
_NOTE = _object({"text": _TEXT, "provenance": _TEXT}, {"rows": _list(_TEXT)})
_TABLE = _object(
    {"id": _TEXT, "title": _TEXT, "caption": _TEXT, "subtables": _list(_SUBTABLE, at_least=1)},
    {
        "remarks": _list(_NOTE),
        "cross_checks": _list(_NOTE),
        "place": _OPTIONAL_TEXT,
        "protocol": _OPTIONAL_TEXT,
        "generated": _OPTIONAL_INTEGER,
    },
)
_METRIC = _object({"id": _TEXT, "label": _TEXT, "better": {"enum": ["lower", "higher"]}, "definition": _TEXT})
_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_BOX = _object(
    {
        "panel": _TEXT,
        "label": _TEXT,
        "count": {"type": "integer"},
        "quartiles": _list({"type": "number"}, at_least=3),
        "drawn": _list({"type": "number"}),
        **dict.fromkeys(("whiskers", "inner_fences", "outer_fences"), _PAIR),
        **dict.fromkeys(("beyond_inner", "beyond_outer", "excess_kurtosis", "max_abs"), {"type": "number"}),
    }
)
_CURVE = _object(
    {"name": _TEXT, "c": {"type": "number"}, "value": _list({"type": "number"}), "slope": _list({"type": "number"})}
)
_COUPLED = _object(
    {"group": {"type": "integer"}, **dict.fromkeys(("distance", "cosine", "variance", "spread"), {"type": "number"})}
)
_NUMBERS = {
    "box-plots": _object(
        {"boxes": _list(_BOX, at_least=1), "points": {"type": "integer"}, "steps": {"type": "integer"}}
    ),
    "losses": _object({"residual": _list({"type": "number"}, at_least=2), "curves": _list(_CURVE, at_least=1)}),
    "couplings": _object({"couplings": _list(_COUPLED, at_least=1), "histograms": {"type": "object"}}),
}
_FIGURE = _object(
    {
        "id": _TEXT,
        "title": _TEXT,
        "caption": _TEXT,
        "datasets": _list(_object({"dataset": _TEXT, "path": _TEXT, "numbers": {"type": ["object", "null"]}})),
    },
    {
        "kind": {"enum": [*_NUMBERS, "schedules", "samples"]},
        "rows": _list(_TEXT),
        "logged": _list(_object({"label": _TEXT, "epoch": {"type": "integer"}, "fid": _OPTIONAL_NUMBER})),
    },
)
_STAGE = _object({"step": {"type": "integer"}, "intervals": {"type": "integer"}, "c": {"type": "number"}})
SCHEMA = _object(
    {
        "format": {"const": FORMAT},
        "scale": _TEXT,
        "banner": _list(_TEXT, at_least=1),
        "metrics": _list(_METRIC, at_least=1),
        "tables": _list(_TABLE, at_least=1),
        "runs": {"type": "object", "additionalProperties": {"type": "object"}},
    },
    {
        "watermark": _OPTIONAL_TEXT,
        "own": _OPTIONAL_TEXT,
        "comparable": {"type": "boolean"},
        "figures": _list(_FIGURE),
        "schedules": _list(_object({"run": _TEXT, "stages": _list(_STAGE)})),
    },
)


def read(path: Path) -> dict[str, Any]:
    """The dict in a tables.json; ValueError with one line if the file is not whole JSON of this shape."""
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, found: {' '.join(str(error).split())}; {_REMEDY}") from error
    check(tables, str(path))
    return tables


def check(tables: Any, where: str = "tables") -> None:
    """Raise ValueError with one line (where, expected, found, what to do) if `tables` cannot be rendered."""
    _validate(tables, SCHEMA, where)
    for figure in tables.get("figures", ()):
        for entry in figure["datasets"]:
            if entry["numbers"] is not None:
                kind = _NUMBERS.get(figure.get("kind", "box-plots"), {"type": "null"})
                _validate(entry["numbers"], kind, f"{where}: figures: {figure['id']}: {entry['dataset']}: numbers")
    _check_links(tables, where)


def _validate(value: Any, shape: dict[str, Any], where: str) -> None:
    errors = jsonschema.Draft202012Validator(shape).iter_errors(value)
    error = min(errors, key=lambda e: (len(e.absolute_path), [str(part) for part in e.absolute_path]), default=None)
    if error is not None:
        place = ": ".join([where, *([".".join(map(str, error.absolute_path))] if error.absolute_path else [])])
        raise ValueError(f"{place}: {_explain(error)}; {_REMEDY}")


def _check_links(tables: dict[str, Any], where: str) -> None:
    """What one part of the dict says about another."""
    metrics = sorted(metric["id"] for metric in tables["metrics"])
    cell_ids: set[str] = set()
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in [*subtable["rows"], *subtable.get("floors", [])]:
                place = f"{where}: {table['id']}.{subtable['id']}.{row['id']}"
                _check_row(row, list(tables["runs"]), place)
                for name, cell in row["cells"].items():
                    if name not in metrics:
                        _refuse(place, f"metrics of {metrics}", repr(name))
                    if cell["n"] != len(cell["values"]):
                        _refuse(f"{place}.{name}", f"n = {cell['n']} values", str(len(cell["values"])))
                    if cell["id"] in cell_ids:
                        _refuse(f"{place}.{name}", "a cell id of its own", f"{cell['id']!r} again")
                    cell_ids.add(cell["id"])


def _check_row(row: dict[str, Any], runs: list[str], place: str) -> None:
    if row["status"] in ("complete", "partial") and row.get("run") and row["run"] not in runs:
        _refuse(place, f"run {row['run']!r} under runs", _short(runs))
    if (row["status"] == "quoted") != bool(row.get("quoted")):
        _refuse(place, f"quoted to agree with status {row['status']!r}", repr(row.get("quoted")))
    if row.get("quoted") and not row.get("published"):
        _refuse(place, "published values in a quoted row", "none")


def _refuse(place: str, expected: str, found: str) -> NoReturn:
    raise ValueError(f"{place}: expected {expected}, found {found}; {_REMEDY}")


def _explain(error: jsonschema.ValidationError) -> str:
    found, wanted = error.instance, error.validator_value
    if error.validator == "required":
        missing = next(key for key in wanted if key not in found)
        return f"expected key {missing!r}, found {_short(sorted(found, key=str))}"
    if error.validator == "type":
        names = wanted if isinstance(wanted, list) else [wanted]
        return f"expected {' or '.join(names)}, found {_short(found)}"
    if error.validator == "const":
        return f"expected {wanted!r}, found {_short(found)}"
    if error.validator == "enum":
        return f"expected one of {wanted}, found {_short(found)}"
    if error.validator == "minItems":
        return f"expected at least {wanted} entry, found {len(found)}"
    if error.validator == "minimum":
        return f"expected {wanted} or more, found {_short(found)}"
    if error.validator == "anyOf" and error.context:
        inner = max(error.context, key=lambda e: len(e.absolute_path))
        if len(inner.relative_path) or inner.validator == "required":
            rest = ".".join(map(str, inner.relative_path))
            return f"{rest}: {_explain(inner)}" if rest else _explain(inner)
    return f"expected a value of this format, found {_short(found)}"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
