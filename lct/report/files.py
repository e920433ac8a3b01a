"""Names of what the report is made from and into; the graph declares them, the renderer makes them. No imports."""

REPORT_FILES = (
    *("index.html", "report.md", "tables.tex", "tables.csv", "numbers.tex"),
    *("audit.html", "evidence.html", "claims.html", "figures.html", "numbers.html", "explore.html"),
)
TEMPLATES = (
    *("index.html.jinja", "cell.html.jinja", "evidence.html.jinja", "claims.html.jinja", "audit.html.jinja"),
    *("figures.html.jinja", "numbers.html.jinja", "explore.html.jinja", "_page.html.jinja", "_explore.js"),
    *("report.md.jinja", "tables.tex.jinja", "numbers.tex.jinja"),
    *("_macros.html.jinja", "_style.css", "_states.css", "_tables.js", "_pictures.js"),
)
EVIDENCE = ("facts.yaml", "authors_runs.csv", "repeats.yaml")  # of config/evidence/: what pages rest on
