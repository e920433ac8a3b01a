"""Targets with names: what `snakemake NAME` makes, and what each is."""

from collections.abc import Iterable, Mapping
from typing import Any

from lct.plan import files
from lct.plan.configuration import CLAIM_SEEDS, CLAIMS
from lct.plan.names import cells_named, nearest, target_names
from lct.plan.plan import Plan


def descriptions(plan: Plan) -> dict[str, str]:
    """Every target by name: tables, sub-tables, rows, and runs, those that no table lists too."""
    texts = {
        "all": "the tables that the scale lists, as a report (a bare `snakemake`)",
        "all_tables": "these and the further tables of the scale, as a report",
        CLAIMS: f"the rows that claims compare, with {CLAIM_SEEDS} training seeds or more, as a report",
    }
    if plan.pilot:
        texts["pilot"] = "the first milestones of a run against the authors' log, as a page that says go on or not"
    for name in target_names(plan.cells):
        cells = cells_named(plan.cells, [name], plan.scale_name)
        cell, depth = cells[0], name.count(".")
        if name == cell.run:
            work = "trained, sampled and scored" if plan.runs[name].samples is None else "images made elsewhere, scored"
            texts[name] = f"run on {plan.runs[name].dataset}: {work}"
        elif depth == 2:
            texts[name] = f"row: run {cell.run}, sampler {cell.sampler}"
        elif depth == 1:
            texts[name] = f"{len(cells)} rows of {cell.table} on {plan.runs[cell.run].dataset}"
        else:
            texts[name] = f"{plan.tables[name].title}: {len(cells)} rows" if name in plan.tables else "runs of no table"
    unlisted = [name for name in plan.unlisted() if name not in texts]
    return texts | {name: f"run on {plan.config.dataset_of(name)} that no table lists" for name in unlisted}


def mentioned(names: Iterable[str], words: Iterable[str]) -> list[str]:
    """Names that the words of a command line hold, also inside a path or the name of a rule."""
    words = list(words)
    return [name for name in names if any(name in word or name.replace("-", "_") in word for word in words)]


def implied(plan: Plan, words: Iterable[str], given: Mapping[str, Any]) -> dict[str, str]:
    """The key of config/config.yaml by which the files of a command line belong to another scale or dataset than the
    plan's, with its value; empty where they do not, or where the keys are given. So `snakemake --force FILE` works as
    it is printed.

    given: keys that the command sets itself."""
    folders = [word.split("/")[1:] for word in words if word.startswith(("results/", "reports/"))]
    scales = {folder[0] for folder in folders} & set(plan.config.names("scales"))
    if "scale" not in given and len(scales) == 1 and plan.scale_name not in scales:
        return {"scale": scales.pop()}
    if "dataset" in given or scales != {plan.scale_name}:
        return {}
    parts = {part.partition(".")[0].removeprefix("dataset-") for folder in folders for part in folder[1:]}
    own = set(plan.config.names("datasets")) - plan.datasets.keys()
    chosen = [name for name in own if any(part == name or part.startswith(f"{name}-") for part in parts)]
    return {"dataset": max(chosen, key=len)} if chosen else {}


def target_files(plan: Plan, name: str) -> list[str]:
    """The files that a target stands for: metrics, previews, neighbours and curves of its rows."""
    cells = cells_named(plan.cells, [name], plan.scale_name)
    return files.cell_metrics(plan, cells) + files.cell_inputs(plan, cells)


def unlisted_files(plan: Plan) -> list[str]:
    """Files that are here and that no report shows: of further seeds, of runs without metrics, and of the pilot."""
    of_pilot = [*files.pilot_distances(plan), plan.paths.report("pilot.html")] if plan.pilot else []
    paths = [path for path in of_pilot if (plan.root / path).exists()]
    for run, seed in sorted(plan.unlisted_trainings(plan.root)):
        weights = [plan.paths.weights(run, seed, name) for name in plan.kept_weights(run)] if run in plan.runs else []
        stages = [files.metrics(plan, run, seed), files.samples(plan, run, seed), weights] if weights else []
        paths += next((of for of in stages if all((plan.root / path).exists() for path in of)), [])
    return paths


def unknown_target(plan: Plan, name: str) -> str | None:
    """One line about a target that does not exist; None for a file, but of weights that its run does not keep."""
    if "/" in name:
        return _unkept_weights(plan, name)
    return (
        f"{name}: expected a target of scale {plan.scale_name}, found none of this name; "
        f"{nearest(name, descriptions(plan))}; snakemake --list shows them all"
    )


def _unkept_weights(plan: Plan, path: str) -> str | None:
    """One line about a file below results/{scale}/ that is, or is made from, weights that its run does not keep."""
    folders = path.split("/")
    run = folders[3] if folders[:2] == ["results", plan.scale_name] and len(folders) > 5 else ""
    if run not in plan.runs or not plan.runs[run].is_trained or not folders[5].startswith("step"):
        return None
    name, kept = folders[5].removesuffix(".safetensors"), plan.kept_weights(run)
    if name in kept:
        return None
    steps = ", ".join(plan.milestones(run))
    return (
        f"{path}: expected weights that run {run} keeps, of {steps}, found {name}; {nearest(name, kept)}; "
        "`keep_epochs` or `keep_steps` of its training keeps more"
    )
