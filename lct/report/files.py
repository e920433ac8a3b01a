"""Names of what the report is made from and into; the graph declares them, the renderer makes them. No imports."""

REPORT_FILES = ("index.html", "report.md", "tables.tex", "tables.csv", "audit.html")
TEMPLATES = (
    *("index.html.jinja", "report.md.jinja", "tables.tex.jinja", "audit.html.jinja"),
    *("_macros.html.jinja", "_style.css", "_states.css"),
)
