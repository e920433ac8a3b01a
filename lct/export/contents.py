"""The files of a project that belong into the archive of a report."""

from pathlib import Path

from lct.files.records import run_path, settings_path
from lct.plan import files as stage_files
from lct.plan.plan import Plan
from lct.report.files import REPORT_FILES

ABOUT = ("LICENSE", "CITATION.cff", "requirements.lock", "requirements-cuda12.lock")


def contents(plan: Plan, root: Path, which: str, with_weights: bool) -> list[str]:
    """Paths relative to root: metrics, what the report shows, tables.json, pages, records and configuration.

    which: "tables" or "all". ValueError if the report, a metrics file or, with_weights, weights do not exist."""
    metrics = stage_files.report_metrics(plan, which)
    sets = [s for cell in plan.cells_of(which) for s in cell.sets]
    weights = [plan.paths.weights(s.run, s.seed, s.weights) for s in sets] if with_weights else []
    required = [*metrics, plan.paths.report("index.html", which), *weights]
    missing = [name for name in required if not (root / name).exists()]
    if missing:
        command = f"snakemake {plan.snakemake_options}"
        raise ValueError(f"{missing[0]}: expected a finished scale, found {len(missing)} files missing; {command}")
    pages = [*REPORT_FILES, *stage_files.row_pages(plan, which), *stage_files.report_figures(plan)]
    names = [*metrics, *stage_files.report_inputs(plan, which), plan.paths.tables(which), *weights]
    names += [plan.paths.report(name, which) for name in pages]
    names += [str(record(name)) for name in names for record in (settings_path, run_path)]
    names += [path.relative_to(root).as_posix() for path in sorted((root / "config").rglob("*"))]
    return [name for name in (*names, *ABOUT) if (root / name).is_file()]
