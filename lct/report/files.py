"""Names of what the report is made from and into; the graph declares them, the renderer makes them. No imports."""

REPORT_FILES = ("index.html", "report.md", "tables.tex", "tables.csv", "audit.html", "known.html", "numbers.tex")
TEMPLATES = (
    *("index.html.jinja", "cell.html.jinja", "known.html.jinja", "audit.html.jinja"),
    *("report.md.jinja", "tables.tex.jinja", "numbers.tex.jinja"),
    *("_macros.html.jinja", "_style.css", "_states.css", "_tables.js"),
)
KNOWN = ("facts.yaml", "authors_runs.csv")  # of config/known/: what the page "What we know and do not" rests on
