"""tables.json -> pages, Markdown, LaTeX, CSV, drawn figures. The same dict and files give the same bytes."""

import base64
import functools
import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas
from markupsafe import Markup

from lct.plan.paths import DRAWN
from lct.report import evidence, text
from lct.report.check import check
from lct.report.images import inside
from lct.report.pages import Page, Pages
from lct.report.verdicts import PAIRS, judge
from lct.report.view import Report, report

TEMPLATES = Path(__file__).parents[2] / "reports" / "templates"
UP = "../.."  # from reports/{scale}/ to the project's root, for links in Markdown


def render(
    tables: dict[str, Any],
    root: Path,
    up: str = UP,
    costs: dict[str, str] | None = None,
    facts: Path | None = None,
    drawn: dict[str, bytes] | None = None,
) -> dict[str, str]:
    """File name -> content of the whole report, its drawn figures apart.

    tables: the dict in tables.json; ValueError with one line if it is not one.
    root:   the folder that the paths in `tables` start from. Files missing there are shown as "not available".
    up:     from the report's folder to that folder.
    costs:  run -> what it has cost, in words; differs by machine, so not part of `tables`.
    facts:  the folder with config/evidence/; the project itself by default.
    drawn:  what `pictures` made of the same tables, if it is at hand.
    """
    check(tables)
    drawn = pictures(tables, root) if drawn is None else drawn
    shown = report(tables | {"costs": costs or {}}, root, drawn)
    pages = {name: cell_page(page, shown) for name, page in Pages(shown, root, up).all().items()}
    return {
        "index.html": html(shown),
        "evidence.html": evidence_page(shown, facts or TEMPLATES.parents[1]),
        "report.md": markdown(shown, up),
        "tables.tex": latex(shown),
        "numbers.tex": numbers(tables),
        "tables.csv": csv(tables),
        **pages,
    }


def pictures(tables: dict[str, Any], root: Path) -> dict[str, bytes]:
    """File name -> content of the figures that are drawn from tables.json and sample grids."""
    from lct.report import paper_figures, plotting  # matplotlib takes half a second to import

    made = {}
    for figure in tables.get("figures", ()):
        if figure.get("kind") == "schedules":
            draw = paper_figures.schedules(figure, tables)
        elif figure.get("kind") == "samples":
            draw = paper_figures.grids(_grids(tables, figure["rows"], root))
        else:
            continue
        made |= {f"figures/{figure['id']}.{kind}": plotting.picture(draw, kind) for kind in DRAWN}
    return made


def _grids(tables: dict[str, Any], places: list[str], root: Path) -> list[tuple[str, bytes]]:
    """(title, PNG) of each row's first grid that is there."""
    found = []
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in subtable["rows"]:
                if f"{table['id']}.{subtable['id']}.{row['id']}" in places:
                    for sample in row.get("samples", ())[:1]:
                        path, _ = inside(root, sample.get("grid"))
                        title = f"{row['model']}, {row.get('nfe')} NFE, {tables['scale']} scale"
                        found += [] if path is None else [(title, path.read_bytes())]
    return found


def _scripted() -> dict[str, Any]:
    """The script of sortable tables, and the hash by which a page's policy lets it run, and nothing else."""
    script = (TEMPLATES / "_tables.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": f"sha256-{digest}"}


@functools.cache  # templates are compiled once, not for every page
def _pages() -> jinja2.Environment:
    environment = templates(autoescape=True)
    environment.filters["svg"] = Markup  # made by lct.report.plotting, the only markup from outside the templates
    return environment


def html(shown: Report) -> str:
    return _pages().get_template("index.html.jinja").render(report=shown, **_scripted())


def cell_page(page: Page, shown: Report) -> str:
    return _pages().get_template("cell.html.jinja").render(page=page, report=shown)


def evidence_page(shown: Report, root: Path) -> str:
    found, lines = evidence.read(root)
    page = evidence.page(found, lines, shown, evidence.commands(found))
    return _pages().get_template("evidence.html.jinja").render(page=page, report=shown, **_scripted())


def markdown(shown: Report, up: str = UP) -> str:
    environment = templates(finalize=text.finalizer(text.markdown))
    environment.filters |= {"raw": text.Raw, "code": text.markdown_code, "target": partial(_target, up=up)}
    return environment.get_template("report.md.jinja").render(report=shown)


def latex(shown: Report) -> str:
    return _latex().get_template("tables.tex.jinja").render(report=shown)


def numbers(tables: dict[str, Any]) -> str:
    """LaTeX macros: every number that a table shows, published ones, differences and verdicts included, by name."""
    found: list[tuple[str, str]] = []
    judged = judge(tables)
    for table in tables["tables"]:
        for subtable in table["subtables"]:
            for row in [*subtable["rows"], *subtable.get("floors", ())]:
                place = f"{table['id']}.{subtable['id']}.{row['id']}"
                for metric in PAIRS:
                    if (row.get("published") or {}).get(metric) is not None:
                        found.append((f"{place}.{metric}.published", text.printed(row["published"][metric])))
                for cell in row["cells"].values():
                    if cell["values"]:
                        one = cell["mean"] if cell["n"] > 1 else cell["values"][0]["value"]
                        found += [(cell["id"], text.number(one)), (f"{cell['id']}.n", str(cell["n"]))]
                        found += [(f"{cell['id']}.sd", text.number(cell["sd"]))] if cell["n"] > 2 else []
                        found.append((f"{cell['id']}.protocol", cell["protocol"]))
                for metric, verdict in judged["rows"].get(place, {}).items():
                    found.append((f"{place}.{metric}.verdict", verdict["kind"]))
                    if verdict["difference"] is not None:
                        found.append((f"{place}.{metric}.difference", text.signed(verdict["difference"])))
    found += [(f"score.{key.replace(' ', '-')}", str(value)) for key, value in judged["score"].items()]
    named = [(text.anchor(name), value) for name, value in found]
    return _latex().get_template("numbers.tex.jinja").render(report=tables, numbers=named)


def _latex() -> jinja2.Environment:
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
    return environment


def csv(tables: dict[str, Any]) -> str:
    """One line per published value and one per cell of ours: they never share a line, so nothing can subtract them."""
    lines, judged = [], judge(tables)["rows"]
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
                        verdicts = judged.get(f"{table['id']}.{subtable['id']}.{row['id']}", {})
                        lines += [
                            _cell_line(start, subtable, row, metric) | _verdict_columns(verdicts, metric["id"])
                            for metric in tables["metrics"]
                        ]
    return pandas.DataFrame(lines, columns=CSV_COLUMNS, dtype=object).to_csv(index=False, lineterminator="\n")


CSV_COLUMNS = [
    *("scale", "watermark", "table", "subtable", "row", "group", "model", "citation", "dagger", "status", "why"),
    *("source", "dataset", "metric", "better", "nfe", "epochs", "batch", "steps", "run", "sampler"),
    *("value", "sd", "n", "axis", "values", "seeds", "draws", "protocol", "cell", "metrics_files", "sha256"),
    *("verdict", "reason", "difference", "band", "sigma", "degrees_of_freedom"),
]


def _verdict_columns(verdicts: dict[str, dict[str, Any]], metric: str) -> dict[str, Any]:
    """Of the line of the metric that stands beside a published one."""
    found = next((verdicts[theirs] for theirs, ours in PAIRS.items() if ours == metric and theirs in verdicts), None)
    if found is None:
        return {}
    numbers = {key: _plain(found[key]) for key in ("difference", "band", "sigma")}
    return {"verdict": found["kind"], "reason": found["why"], "degrees_of_freedom": found["df"], **numbers}


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
