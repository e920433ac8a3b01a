"""tables.json -> index.html, report.md, tables.tex, tables.csv. The same dict and files give the same bytes."""

import math
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas
from markupsafe import Markup

from lct.report import text
from lct.report.check import check
from lct.report.view import Report, report

TEMPLATES = Path(__file__).parents[2] / "reports" / "templates"
UP = "../.."  # from reports/{scale}/ to the project's root, for links in Markdown


def render(tables: dict[str, Any], root: Path, up: str = UP, costs: dict[str, str] | None = None) -> dict[str, str]:
    """File name -> content of the whole report.

    tables: the dict in tables.json; ValueError with one line if it is not one.
    root:   the folder that the paths in `tables` start from. Files missing there are shown as "not available".
    up:     from the report's folder to that folder.
    costs:  run -> what it has cost, in words; differs by machine, so not part of `tables`.
    """
    check(tables)
    shown = report(tables | {"costs": costs or {}}, root)
    return {
        "index.html": html(shown),
        "report.md": markdown(shown, up),
        "tables.tex": latex(shown),
        "tables.csv": csv(tables),
    }


def html(shown: Report) -> str:
    environment = templates(autoescape=True)
    environment.filters["svg"] = Markup  # made by lct.report.plots, the only markup from outside the templates
    return environment.get_template("index.html.jinja").render(report=shown)


def markdown(shown: Report, up: str = UP) -> str:
    environment = templates(finalize=text.finalizer(text.markdown))
    environment.filters |= {"raw": text.Raw, "code": text.markdown_code, "target": partial(_target, up=up)}
    return environment.get_template("report.md.jinja").render(report=shown)


def latex(shown: Report) -> str:
    environment = templates(
        finalize=text.finalizer(text.latex),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters |= {"raw": text.Raw, "comment": _latex_comment}
    return environment.get_template("tables.tex.jinja").render(report=shown)


def csv(tables: dict[str, Any]) -> str:
    """One line per published value and one per cell of ours: they never share a line, so nothing can subtract them."""
    lines = []
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            place = {
                "scale": tables["scale"],
                "watermark": tables.get("watermark"),
                "table": table["id"],
                "subtable": subtable["id"],
            }
            for kind in ("rows", "floors"):
                for row in subtable.get(kind, ()):
                    start = place | {"row": row["id"], "group": row["group"], "model": row["model"]}
                    start |= {
                        "citation": row.get("citation"),
                        "dagger": bool(row.get("dagger")),
                        "status": row["status"],
                    }
                    lines += _published_lines(start, subtable, row)
                    if row["status"] != "quoted":
                        lines += [_cell_line(start, subtable, row, metric) for metric in tables["metrics"]]
    return pandas.DataFrame(lines, columns=CSV_COLUMNS, dtype=object).to_csv(index=False, lineterminator="\n")


CSV_COLUMNS = [
    *("scale", "watermark", "table", "subtable", "row", "group", "model", "citation", "dagger", "status", "why"),
    *("source", "dataset", "metric", "better", "nfe", "epochs", "batch", "steps", "run", "sampler"),
    *("value", "sd", "n", "axis", "values", "seeds", "draws", "protocol", "cell", "metrics_files", "sha256"),
]


def _published_lines(start: dict[str, Any], subtable: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    published = row.get("published") or {}
    log = (published.get("origin") or {}).get("kind") == "authors' log"
    source = "published, quoted there" if row["status"] == "quoted" else "authors' log" if log else "published"
    shared = {"source": source, "dataset": subtable["paper_dataset"], "nfe": published.get("nfe")}
    shared |= {"epochs": published.get("epochs"), "batch": published.get("batch_size")}
    return [
        start | shared | {"metric": label, "better": better, "value": _plain(published.get(key))}
        for key, label, better in (("fid", "FID", "lower"), ("recall", "Recall", "higher"))
        if published.get(key) is not None
    ]


def _cell_line(
    start: dict[str, Any], subtable: dict[str, Any], row: dict[str, Any], metric: dict[str, Any]
) -> dict[str, Any]:
    cell = row["cells"].get(metric["id"]) or {"values": [], "n": 0}
    values = cell["values"]
    line = start | {
        "source": "this project",
        "why": row.get("why"),
        "dataset": subtable["dataset"],
        "metric": metric["label"],
        "better": metric["better"],
        "nfe": row.get("nfe"),
        "batch": row.get("batch"),
        "steps": row.get("steps"),
        "run": row.get("run"),
        "sampler": row.get("sampler"),
        "n": cell["n"],
    }
    if not values:
        return line
    return line | {
        "value": _plain(cell["mean"] if cell["n"] > 1 else values[0]["value"]),
        "sd": _plain(cell["sd"]) if cell["n"] > 2 else None,  # two values have no spread worth the name
        "axis": cell["axis"],
        "values": ";".join(_plain(value["value"]) for value in values),
        "seeds": ";".join(str(value["seed"]) for value in values),
        "draws": ";".join(str(value.get("draw", 0)) for value in values),
        "protocol": cell["protocol"],
        "cell": cell["id"],
        "metrics_files": ";".join(dict.fromkeys(value["metrics"] for value in values)),
        "sha256": ";".join(dict.fromkeys(value["sha256"] for value in values)),
    }


def _plain(value: Any) -> str | None:
    """All digits, in the spelling that spreadsheets and pandas read back."""
    if value is None:
        return None
    x = text.as_float(value)
    return repr(x) if math.isfinite(x) else {"nan": "NaN", "inf": "inf", "-inf": "-inf"}[repr(x)]


def _target(path: str, up: str) -> text.Raw:
    """A path under the project's root as the target of a link in report.md."""
    return text.Raw(f"{up}/{quote(str(path))}")


def _latex_comment(value: Any) -> text.Raw:
    """Text behind a %: it must not leave its line."""
    return text.Raw(" ".join(str(value).split()))


def templates(autoescape: bool = False, **settings: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )
