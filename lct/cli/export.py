"""`lct export`: results in the form of other programs."""

import argparse
import json
from pathlib import Path
from typing import Any

from lct.checks import require
from lct.cli.options import Result, all_tables, argument
from lct.cli.plans import selected_plan
from lct.export import bundle
from lct.files.atomic import read_json, write_bytes
from lct.lineage.cells import chosen, targets
from lct.plan.plan import Cell, Plan
from lct.report.tables import read

TEXTS = {"latex": "tables.tex", "numbers": "numbers.tex", "csv": "tables.csv", "markdown": "report.md"}


def _diffusers(arguments: argparse.Namespace, plan: Plan) -> Result:
    from lct.export import diffusers

    root, cell = arguments.root, _cell(arguments.cells[0], plan)
    own = plan.runs[cell.run].samples is None
    require(own, cell.name, "a row with weights", "images made elsewhere", "name another row")
    seed, seeds = arguments.seed, plan.seeds_of(cell.run)
    require(seed in (None, *seeds), "--seed", f"one of {list(seeds)}", seed, "choose another")
    seed = seeds[0] if seed is None else seed
    files = diffusers.generator_files(plan, root, cell, seed)
    out = arguments.out or root / "exports" / f"{cell.name}-s{seed}"
    diffusers.check_folder(out)  # before weights are hashed
    written = diffusers.write(out, files, cell.sampler, diffusers.card(plan, root, cell, seed, files))
    names = [str(path.relative_to(out)) for path in written]
    load = f'DiffusionPipeline.from_pretrained("{out}", trust_remote_code=True)'
    return 0, {"folder": str(out), "files": names}, f"{out}: {len(names)} files\nload it with: {load}"


def _cell(name: str, plan: Plan) -> Cell:
    """The row that a name, or the start of one, means."""
    rows = {target.id.rpartition(".")[0] for target in chosen([name], targets(plan))}
    cells = [cell for cell in plan.cells if cell.name in rows]
    require(len(cells) == 1, name, "one row with weights", f"{len(cells)} of {sorted(rows)[:3]}", "name a row")
    return cells[0]


def _bundle(arguments: argparse.Namespace, plan: Plan) -> Result:
    tables, root = arguments.which, arguments.root
    _checked_tables(arguments, plan)
    names = bundle.contents(plan, root, tables, arguments.weights)
    out = arguments.out or root / "exports" / f"lct-{plan.scale_name}-{tables}.zip"
    out.parent.mkdir(parents=True, exist_ok=True)
    own = plan.main.dataset and f"{plan.datasets[plan.main.dataset].title}, by the methods of arXiv:2502.01441"
    title = f"{own or 'Reproduction of arXiv:2502.01441'}, {plan.scale_name} scale"
    command = f"snakemake {'all_tables ' if tables == 'all' else ''}{plan.snakemake_options}"
    licences = {dataset.licence for dataset in plan.datasets.values()}
    licence = licences.pop() if len(licences) == 1 else None
    description = " ".join(plan.scale.banner)
    count = bundle.write(out, root, names, title=title, description=description, command=command, licence=licence)
    return 0, {"file": str(out), "files": count}, f"{out}: {count} files; unpack it and run `python verify.py` inside"


def _json(arguments: argparse.Namespace, plan: Plan) -> Result:
    """tables.json as it is."""
    value = read_json(_checked_tables(arguments, plan))
    return _output(arguments, value, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def _checked_tables(arguments: argparse.Namespace, plan: Plan) -> Path:
    """The path of tables.json, whose content is checked."""
    path = plan.paths.tables(arguments.which)
    require((arguments.root / path).exists(), path, "a finished report", "none", f"snakemake {plan.snakemake_options}")
    read(arguments.root / path)
    return arguments.root / path


def _text(arguments: argparse.Namespace, plan: Plan) -> Result:
    """A text of the report as it was rendered from tables.json."""
    path = arguments.root / plan.paths.report(TEXTS[arguments.to], arguments.which)
    require(path.exists(), path, "a report", "none", f"lct report {plan.lct_options}")
    text = path.read_text(encoding="utf-8")
    return _output(arguments, {"format": arguments.to, "text": text}, text.rstrip("\n"))


def _output(arguments: argparse.Namespace, value: Any, text: str) -> Result:
    """A text for the terminal, or for the file of --out."""
    if arguments.out is None:
        return 0, value, text
    write_bytes(arguments.out, f"{text}\n".encode())
    return 0, {"file": str(arguments.out)}, str(arguments.out)


def _wandb(arguments: argparse.Namespace, plan: Plan) -> Result:
    from lct.export import wandb

    names = wandb.log(plan, arguments.root, arguments.which, arguments.project)
    return 0, names, f"{len(names)} runs logged to the project {arguments.project}"


FORMS = {"diffusers": _diffusers, "bundle": _bundle, "json": _json, "wandb": _wandb}


@argument("cells", nargs="*", metavar="CELL", help="with diffusers: a row, such as table1.a.lct-1")
@argument("--to", required=True, choices=(*FORMS, *TEXTS), help="what to make")
@argument("--out", type=Path, metavar="PATH", help="folder or file to write (default: under exports/)")
@argument("--seed", type=int, help="training seed of the weights (default: the first)")
@argument("--weights", action="store_true", help="bundle: with the weights of every row")
@argument("--project", default="lct", help="wandb: project to log to (default: lct)")
@all_tables
def export(arguments: argparse.Namespace) -> Result:
    """Results for other programs: a diffusers pipeline, LaTeX, CSV, JSON, an archive that verifies by itself.

    Refuses to overwrite a folder that it did not write."""
    plan = selected_plan(arguments)
    expected, given = ("one CELL", 1) if arguments.to == "diffusers" else ("no CELL", 0), len(arguments.cells)
    require(given == expected[1], f"--to {arguments.to}", expected[0], given, "see lct export --help")
    return FORMS.get(arguments.to, _text)(arguments, plan)
