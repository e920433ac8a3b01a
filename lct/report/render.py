"""tables.json -> pages, Markdown, LaTeX, CSV, drawn figures. The same content and files give the same bytes."""

import base64
import functools
import hashlib
import math
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas
from markupsafe import Markup

from lct.files.formatting import format_duration, format_size
from lct.plan.paths import DRAWN
from lct.report import claims, evidence, text
from lct.report import tables as model
from lct.report.headline import headline
from lct.report.images import inside
from lct.report.pages import explore_page, row_pages
from lct.report.tables import PAIRS, Tables, Verdict, place
from lct.report.verdicts import LABELS, NOT_RUN
from lct.report.view import Report, cell_text, first_grids, report

TEMPLATES = Path(__file__).parents[2] / "reports" / "templates"
UP = "../.."  # from reports/{scale}/ to the project's root, for links in Markdown


def render(
    tables: Tables,
    root: Path,
    up: str = UP,
    costs: dict[str, str] | None = None,
    facts: Path | None = None,
    drawn: dict[str, bytes] | None = None,
    trust: dict[str, Any] | None = None,
    claimed: tuple[Tables, str] | None = None,
) -> dict[str, str]:
    """File name -> content of the whole report, its drawn figures apart.

    root:  the folder that the paths in `tables` start from. Files missing there are shown as "not available".
    up:    from the report's folder to that folder.
    costs: run -> what it has cost; differs by machine, so not part of `tables`.
    facts: the folder with config/evidence/ and config/claims/; the project itself by default.
    drawn: the result of `pictures` for the same tables, if it is at hand.
    trust: what the audits say of all cells together, as `lct.report.headline.trust` returns it.
    claimed: the tables by which claims are judged instead of `tables`, and the report that shows them.
    """
    drawn = pictures(tables, root) if drawn is None else drawn
    shown = report(tables, root, drawn, costs or {})
    project = facts or TEMPLATES.parents[1]
    content = evidence.read(project)
    judgements = claims.page(project, tables, *(claimed or ()))
    script, explorer = _script("_tables.js", "_pictures.js"), _script("_tables.js", "_explore.js")
    values: dict[str, dict[str, Any]] = {
        "index.html": {"claims": judgements, "top": headline(shown, judgements.measured), "trust": trust},
        "figures.html": {},
        "numbers.html": {},
        "explore.html": {"page": explore_page(shown, root)} | explorer,
        "claims.html": {"claims": judgements},
        "evidence.html": {"page": evidence.page(*content, shown)},
    }
    common = {"report": shown, "root": up} | script
    return {
        **{name: html(name, **(common | of)) for name, of in values.items()},
        "report.md": markdown(shown, up),
        "tables.tex": _latex().get_template("tables.tex.jinja").render(report=shown),
        "numbers.tex": numbers(tables),
        "tables.csv": csv(tables),
        **{name: html("cell.html", page=page, report=shown) for name, page in row_pages(shown, root, up).items()},
    }


def pictures(tables: Tables, root: Path) -> dict[str, bytes]:
    """File name -> content of the figures that are drawn from tables.json and sample grids."""
    from lct.report import paper_figures, plotting  # matplotlib takes half a second to import

    contents = {}
    for figure in tables.figures:
        if figure.kind == "schedules":
            draw = functools.partial(paper_figures.schedules, figure, tables)
        elif figure.kind == "samples":
            paths = [(row, inside(root, path)[0]) for row, _, path in first_grids(figure, tables)]
            grids = [
                (f"{row.model}, {row.nfe} NFE, {tables.scale} scale", path.read_bytes()) for row, path in paths if path
            ]
            draw = functools.partial(paper_figures.grids, grids)
        else:
            continue
        drawn = plotting.pictures(draw, DRAWN)
        contents |= {f"figures/{figure.id}.{kind}": content for kind, content in drawn.items()}
    return contents


def _script(*names: str) -> dict[str, Any]:
    """Scripts of a page as one, and the hash by which its policy lets it run, and nothing else."""
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": f"sha256-{digest}"}


@functools.cache  # templates are compiled once, not for every page
def _pages() -> jinja2.Environment:
    environment = templates(autoescape=True)
    environment.filters["svg"] = Markup  # drawn by lct.report.plotting, the only markup from outside the templates
    environment.filters |= {"size": format_size, "duration": format_duration, "short": text.short}
    return environment


def html(name: str, **values: Any) -> str:
    """A page by the template of its name."""
    return _pages().get_template(f"{name}.jinja").render(values)


def markdown(shown: Report, up: str = UP) -> str:
    """report.md; links start with `up`."""
    environment = templates(finalize=text.finalizer(text.markdown))
    environment.filters |= {"raw": text.Raw, "code": text.markdown_code}
    environment.filters["target"] = lambda path: text.Raw(f"{up}/{quote(str(path))}")
    return environment.get_template("report.md.jinja").render(report=shown)


def numbers(tables: Tables) -> str:
    """LaTeX macros: every number that a table shows, published ones, differences and verdicts included, by name."""
    macros: list[tuple[str, str]] = []
    metrics = {metric.id: metric for metric in tables.metrics}
    for table, subtable, row in tables.rows:
        at = place(table, subtable, row)
        published = {metric: getattr(row.published, metric, None) for metric in PAIRS}
        macros += [(f"{at}.{m}.published", text.printed(value)) for m, value in published.items() if value is not None]
        for name, cell in row.cells.items():
            if cell.values:
                macros.append((cell.id, cell_text(metrics[name], row)))
                macros += [(f"{cell.id}.mean", text.number(cell.shown)), (f"{cell.id}.n", str(cell.n))]
                macros += [(f"{cell.id}.sd", text.number(cell.sd))] if cell.n > 2 and cell.sd is not None else []
                macros.append((f"{cell.id}.protocol", cell.protocol))
        for metric, verdict in tables.verdicts.rows.get(at, {}).items():
            macros.append((f"{at}.{metric}.verdict", verdict.kind))
            if verdict.difference is not None:
                macros.append((f"{at}.{metric}.difference", text.signed(verdict.difference)))
    macros += [(f"score.{key.replace(' ', '-')}", str(value)) for key, value in tables.verdicts.score.items()]
    named = [(text.anchor(name), value) for name, value in macros]
    return _latex().get_template("numbers.tex.jinja").render(scale=tables.scale, numbers=named)


@functools.cache
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
    environment.filters["raw"] = text.Raw
    environment.filters["comment"] = lambda value: text.Raw(" ".join(str(value).split()))  # it must not leave its line
    return environment


CSV_COLUMNS = [
    *("scale", "watermark", "table", "subtable", "row", "group", "model", "citation", "dagger", "status", "why"),
    *("source", "dataset", "metric", "better", "nfe", "epochs", "batch", "steps", "run", "sampler"),
    *("value", "sd", "n", "axis", "values", "seeds", "draws", "protocol", "cell", "metrics_files", "sha256"),
    *("verdict", "reason", "difference", "band_low", "band_high", "sigma", "degrees_of_freedom"),
]


def csv(tables: Tables) -> str:
    """One line per published value and one per cell of ours: they never share a line, so nothing can subtract them."""
    lines = []
    for table, subtable, row in tables.rows:
        start = {"scale": tables.scale, "watermark": tables.watermark, "table": table.id, "subtable": subtable.id}
        start |= {key: getattr(row, key) for key in ("group", "model", "citation", "dagger", "status")}
        start["row"] = row.id
        lines += [start | line for line in _published_lines(subtable, row)]
        if row.status != "quoted":
            verdicts = tables.verdicts.rows.get(place(table, subtable, row), {})
            for metric in tables.metrics:
                verdict = next((verdicts[theirs] for theirs in verdicts if PAIRS[theirs] == metric.id), None)
                lines.append(start | _cell_line(subtable, row, metric) | (_verdict_columns(verdict) if verdict else {}))
    return pandas.DataFrame(lines, columns=CSV_COLUMNS, dtype=object).to_csv(index=False, lineterminator="\n")


def _verdict_columns(verdict: Verdict) -> dict[str, Any]:
    values = {key: _digits(getattr(verdict, key)) for key in ("difference", "sigma")}
    values |= dict(zip(("band_low", "band_high"), map(_digits, verdict.band or (None, None)), strict=True))
    return {"verdict": verdict.kind, "reason": verdict.why, "degrees_of_freedom": verdict.df, **values}


def _published_lines(subtable: model.Subtable, row: model.Row) -> list[dict[str, Any]]:
    published = row.published
    if published is None:
        return []
    log = published.origin.kind == "authors' log"
    source = "published, quoted there" if row.status == "quoted" else "authors' log" if log else "published"
    shared = {"source": source, "dataset": subtable.paper_dataset, "nfe": published.nfe}
    shared |= {"epochs": published.epochs, "batch": published.batch_size}
    return [
        shared | {"metric": label, "better": better, "value": _digits(value)}
        for value, label, better in ((published.fid, "FID", "lower"), (published.recall, "Recall", "higher"))
        if value is not None
    ]


def _cell_line(subtable: model.Subtable, row: model.Row, metric: model.Metric) -> dict[str, Any]:
    cell = row.cells.get(metric.id)
    line = {key: getattr(row, key) for key in ("why", "nfe", "batch", "steps", "run", "sampler")}
    line |= {"source": "this project", "dataset": subtable.dataset, "metric": metric.label, "better": metric.better}
    if cell is None or not cell.values:
        return line | {"n": 0}
    return line | {
        "n": cell.n,
        "value": _digits(cell.shown),
        "sd": _digits(cell.sd) if cell.n > 2 else None,  # two values have no spread worth the name
        "axis": cell.axis,
        "values": ";".join(_digits(value.value) for value in cell.values),
        "seeds": ";".join(str(value.seed) for value in cell.values),
        "draws": ";".join(str(value.draw) for value in cell.values),
        "protocol": cell.protocol,
        "cell": cell.id,
        "metrics_files": ";".join(dict.fromkeys(value.metrics for value in cell.values)),
        "sha256": ";".join(dict.fromkeys(value.sha256 for value in cell.values)),
    }


def _digits(value: float | None) -> str | None:
    """All digits, in the spelling that spreadsheets and pandas read back."""
    return None if value is None else "NaN" if math.isnan(value) else repr(float(value))


def _outcome(verdict: Verdict) -> str:
    """Difference and band of a verdict, or why there are none."""
    if verdict.difference is None:
        return verdict.why
    difference = text.signed(verdict.difference)
    if verdict.band is None:
        return f"{difference}; {verdict.why}"
    band = f"{difference}, band {text.number(verdict.band[0])} to {text.number(verdict.band[1])}"
    return f"{band}; {verdict.why}" if verdict.why else band


def _sentence(verdict: Verdict, metric: str) -> str:
    """All of a verdict."""
    start = f"{LABELS[metric]} {text.printed(verdict.published)} published"
    if verdict.kind == NOT_RUN:
        return f"{start}; not run here" + (f": {verdict.why}" if verdict.why else "")
    outcome = _outcome(verdict)
    return f"{start}, {verdict.kind}: {outcome}" if outcome else f"{start}, {verdict.kind}"


def _outcomes(verdicts: dict[str, Verdict]) -> str:
    """Each verdict of a row with its numbers, for formats without colour."""
    return "; ".join(
        f"{LABELS[metric]} {verdict.kind}" + (f" ({_outcome(verdict)})" if verdict.difference is not None else "")
        for metric, verdict in verdicts.items()
    )


_FILTERS = {
    "anchor": text.anchor,
    "number": text.number,
    "count": text.count,
    "exact": text.exact,
    "printed": text.printed,
    "seed": text.seed_name,
    "ordinal": text.ordinal,
    "shell": shlex.quote,
    "signed": text.signed,
    "flatten": text.flatten,
    "metric_label": LABELS.__getitem__,
    "status": lambda status: "measured" if status == "complete" else status,
    "css": lambda kind: "within" if kind.startswith("within") else kind.replace(" ", "-"),
    "outcome": _outcome,
    "outcomes": _outcomes,
    "sentence": _sentence,
}


def templates(autoescape: bool = False, **settings: Any) -> jinja2.Environment:
    """Jinja with the templates of reports/templates/ and the filters that write values as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )
    environment.filters |= _FILTERS
    return environment
