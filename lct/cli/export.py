"""The verbs that hand results on: export, completion. Each returns (exit code, value for --json, text for people)."""

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct.cli.options import overrides, plan_arguments
from lct.config.schema import plain
from lct.export.generator import GeneratorFiles
from lct.files.atomic import read_json, write_bytes
from lct.files.hashing import sha256_file
from lct.files.records import run_path, settings_path
from lct.lineage.cells import chosen, targets
from lct.plan import files as stage_files
from lct.plan import settings as stage_settings
from lct.plan.paths import grid
from lct.plan.plan import Cell, Plan
from lct.report import files as report_files
from lct.report.tables import read

Result = tuple[int, Any, str]
TABLES = {"latex": "tables.tex", "numbers": "numbers.tex", "csv": "tables.csv", "markdown": "report.md"}
FORMS = ("diffusers", "bundle", "json", *TABLES, "wandb")


def export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cells", nargs="*", metavar="CELL", help="with diffusers: a row, such as table1.a.lct-1")
    parser.add_argument("--to", required=True, choices=FORMS, help="what to make")
    parser.add_argument("--out", type=Path, metavar="PATH", help="folder or file to write (default: under exports/)")
    parser.add_argument("--seed", type=int, help="training seed of the weights (default: the first)")
    parser.add_argument("--weights", action="store_true", help="bundle: with the weights of every row")
    parser.add_argument("--all", action="store_true", help="with the tables that only `snakemake all_tables` makes")
    parser.add_argument("--project", default="lct", help="wandb: project to log to (default: lct)")
    plan_arguments(parser)


def export(arguments: argparse.Namespace) -> Result:
    """Results in another program's form. Refuses to overwrite a folder that it did not write."""
    plan = Plan(arguments.root, overrides(arguments))
    if bool(arguments.cells) != (arguments.to in ("diffusers",)) or len(arguments.cells) > 1:
        wanted = "one CELL" if arguments.to in ("diffusers",) else "no CELL"
        raise ValueError(f"--to {arguments.to}: expected {wanted}, found {len(arguments.cells)}; see lct export --help")
    made: dict[str, Callable[[argparse.Namespace, Plan], Result]] = {
        "diffusers": _diffusers,
        "bundle": _bundle,
        "json": _json,
        "wandb": _wandb,
    }
    return made.get(arguments.to, _table)(arguments, plan)


def _cell(arguments: argparse.Namespace, plan: Plan) -> Cell:
    """The row that a name, or the start of one, means."""
    found = chosen(arguments.cells, targets(plan))
    rows = {target.id.rpartition(".")[0] for target in found}
    cells = [cell for cell in plan.cells if _row(cell) in rows]
    if len(cells) != 1:
        raise ValueError(
            f"{arguments.cells[0]}: expected one row with weights, found {len(cells)} of {sorted(rows)[:3]}; name a row"
        )
    return cells[0]


def _generator(arguments: argparse.Namespace, plan: Plan) -> tuple[Cell, int, GeneratorFiles]:
    """A row, a training seed, and what its generator is made of. ValueError naming the first missing file."""
    cell = _cell(arguments, plan)
    seeds, root, dataset = plan.seeds_of(cell.run), arguments.root, plan.runs[cell.run].dataset
    seed = seeds[0] if arguments.seed is None else arguments.seed
    if seed not in seeds:
        raise ValueError(f"--seed: expected one of {list(seeds)}, found {seed}; choose another")
    found = GeneratorFiles(
        weights=root / plan.paths.weights(cell.run, seed, cell.weights),
        statistics=root / stage_files.latents(plan, dataset, "statistics.safetensors"),
        vae=root / plan.paths.autoencoder(dataset),
        settings=stage_settings.sample(plan, cell.run),
    )
    for path in found.files:
        if not path.exists():
            name = path.relative_to(root)
            command = f"snakemake {name} --config scale={plan.scale_name}"
            raise ValueError(f"{name}: expected the file that {_row(cell)} is made from, found nothing; {command}")
    return cell, seed, found


def _row(cell: Cell) -> str:
    return f"{cell.table}.{cell.subtable}.{cell.row}"


def _diffusers(arguments: argparse.Namespace, plan: Plan) -> Result:
    from lct.export import diffusers

    cell, seed, made_from = _generator(arguments, plan)
    out = arguments.out or arguments.root / "exports" / f"{_row(cell)}-s{seed}"
    diffusers.check_folder(out)  # before weights are hashed
    written = diffusers.write(out, made_from, cell.sampler, _card(plan, cell, seed, arguments.root, made_from.files))
    names = [str(path.relative_to(out)) for path in written]
    load = f'DiffusionPipeline.from_pretrained("{out}", trust_remote_code=True)'
    return 0, {"folder": str(out), "files": names}, f"{out}: {len(names)} files\nload it with: {load}"


def _card(plan: Plan, cell: Cell, seed: int, root: Path, origin: list[Path]) -> dict[str, Any]:
    """What the model card says; metrics are those of this seed, where they were measured."""
    run = plan.runs[cell.run]
    path = plan.paths.metrics(
        cell.run, seed, cell.weights, cell.sampler, min(plan.scale.sampling.draws), plan.protocol.id
    )
    measured = read_json(root / path) if (root / path).exists() else None
    values = {} if measured is None else measured["values"]
    label = f"{plan.scale.distance} ({plan.extractor(run.dataset, plan.scale.protocols[0].distance).id})"
    names = {"fd": label, "fdr": f"{label} to reconstructions", "precision": "precision", "recall": "recall"}
    return {
        "title": f"{run.id}, {cell.sampler}",
        "warning": "" if plan.scale.comparable else " ".join(plan.scale.banner),
        "run": run.id,
        "method": run.method,
        "seed": seed,
        "weights": cell.weights,
        "sampler": cell.sampler,
        "nfe": run.samplers[cell.sampler].nfe,
        "scale": plan.scale_name,
        "dataset": plan.datasets[run.dataset].title,
        "model": "consistency_model",
        "metrics": [(names[key], repr(values[key])) for key in names if key in values],
        "images": measured["num_images"] if measured else "no",
        "protocol_hash": measured["protocol_hash"][:12] if measured else "none",
        "protocol": json.dumps(measured["protocol"] if measured else {}, indent=1, sort_keys=True),
        "origin": [(str(one.relative_to(root)), sha256_file(one)) for one in origin],
        "cell": _row(cell),
    }


def _which(arguments: argparse.Namespace) -> str:
    return "all" if arguments.all else "tables"


def _tables_json(arguments: argparse.Namespace, plan: Plan) -> str:
    """The path of tables.json, whose content is checked."""
    path = plan.paths.tables(_which(arguments))
    if not (arguments.root / path).exists():
        raise ValueError(f"{path}: expected a finished report, found none; snakemake --config scale={plan.scale_name}")
    read(arguments.root / path)
    return path


def _json(arguments: argparse.Namespace, plan: Plan) -> Result:
    """tables.json as it is."""
    value = read_json(arguments.root / _tables_json(arguments, plan))
    return _given(arguments, value, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def _table(arguments: argparse.Namespace, plan: Plan) -> Result:
    """A text of the report as it is rendered from tables.json."""
    path = arguments.root / plan.paths.report(TABLES[arguments.to], _which(arguments))
    if not path.exists():
        raise ValueError(f"{path}: expected a report, found none; lct report --scale {plan.scale_name}")
    text = path.read_text(encoding="utf-8")
    return _given(arguments, {"format": arguments.to, "text": text}, text.rstrip("\n"))


def _given(arguments: argparse.Namespace, value: Any, text: str) -> Result:
    """Text to a file, or to the terminal."""
    if arguments.out is None:
        return 0, value, text
    write_bytes(arguments.out, f"{text}\n".encode())
    return 0, {"file": str(arguments.out)}, str(arguments.out)


def _bundle(arguments: argparse.Namespace, plan: Plan) -> Result:
    from lct.export import bundle

    which = _which(arguments)
    path = _tables_json(arguments, plan)
    rows = stage_files.report_metrics(plan, which)
    names = [*rows, *stage_files.report_inputs(plan, which), path]
    report = [*report_files.REPORT_FILES, *stage_files.row_pages(plan, which), *stage_files.report_figures(plan)]
    names += [plan.paths.report(name, which) for name in report]
    weights = [plan.paths.weights(s.run, s.seed, s.weights) for cell in plan.cells_of(which) for s in cell.sets]
    weights = weights if arguments.weights else []
    names += weights
    names += [str(of(name)) for name in names for of in (settings_path, run_path)]
    names += [
        p.relative_to(arguments.root).as_posix() for p in sorted((arguments.root / "config").rglob("*")) if p.is_file()
    ]
    names += [name for name in ("LICENSE", "CITATION.cff", "requirements.lock") if (arguments.root / name).exists()]
    needed = [*rows, plan.paths.report("index.html", which), *weights]
    missing = [name for name in needed if not (arguments.root / name).exists()]
    if missing:
        command = f"snakemake --config scale={plan.scale_name}"
        raise ValueError(f"{missing[0]}: expected a finished scale, found {len(missing)} files missing; {command}")
    there = [name for name in names if (arguments.root / name).is_file()]
    out = arguments.out or arguments.root / "exports" / f"lct-{plan.scale_name}-{which}.zip"
    title = f"Reproduction of arXiv:2502.01441, {plan.scale_name} scale"
    command = f"snakemake {'all_tables ' if which == 'all' else ''}--config scale={plan.scale_name}"
    out.parent.mkdir(parents=True, exist_ok=True)
    count = bundle.write(
        out, arguments.root, there, title=title, description=" ".join(plan.scale.banner), command=command
    )
    return 0, {"file": str(out), "files": count}, f"{out}: {count} files; unpack it and run `python verify.py` inside"


def _runs(plan: Plan, root: Path, which: str) -> list[tuple[str, int, dict[str, Any]]]:
    """(run, seed, curves.json) of every training that has one."""
    wanted = sorted({(s.run, s.seed) for cell in plan.cells_of(which) for s in cell.sets})
    paths = [(run, seed, root / plan.paths.train(run, seed) / "curves.json") for run, seed in wanted]
    return [(run, seed, read_json(path)) for run, seed, path in paths if path.exists()]


def _wandb(arguments: argparse.Namespace, plan: Plan) -> Result:
    if importlib.util.find_spec("wandb") is None:
        raise ValueError("--to wandb: expected the package wandb, found none; pip install wandb && wandb login")
    import wandb

    logged = []
    for run, seed, curve in _runs(plan, arguments.root, _which(arguments)):
        started = wandb.init(
            project=arguments.project,
            name=f"{run}-s{seed}",
            group=run,
            config={"scale": plan.scale_name, "seed": seed, "training": plain(plan.runs[run].training)},
        )
        for i, step in enumerate(curve["step"]):
            started.log({k: v[i] for k, v in curve.items() if k != "step" and v[i] is not None}, step=step)
        for cell in (cell for cell in plan.cells_of(_which(arguments)) if cell.run == run):
            for s in (s for s in cell.sets if s.seed == seed):
                path = arguments.root / plan.paths.metrics(
                    s.run, s.seed, s.weights, s.sampler, s.draw, plan.protocol.id
                )
                if path.exists():
                    values = read_json(path)["values"]
                    started.summary.update({f"{cell.sampler}/{k}": v for k, v in values.items() if v is not None})
                picture = arguments.root / grid(plan.paths.samples(s.run, s.seed, s.weights, s.sampler, s.draw))
                if picture.exists():
                    started.log({f"{cell.sampler}/samples": wandb.Image(str(picture))})
        started.finish()
        logged.append(f"{run}-s{seed}")
    return 0, logged, f"{len(logged)} runs logged to the project {arguments.project}"


def completion_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="shell to complete in")


def completion(arguments: argparse.Namespace) -> Result:
    """The script that a shell reads: eval "$(lct completion bash)" in ~/.bashrc."""
    import shtab

    from lct.cli.main import parser

    script = shtab.complete(parser(), shell=arguments.shell)
    return 0, {"shell": arguments.shell, "script": script}, script.rstrip("\n")
