"""What people read about a plan: targets with names, what `snakemake NAME` makes and what each is; what verbs and dry
runs print about its runs; and the tables that a report leaves out."""

from collections.abc import Iterable, Mapping
from typing import Any

from lct.checks import invalid
from lct.config.model import GIVEN, Dataset, Run
from lct.config.published import TableSpec
from lct.networks.settings import parameters
from lct.plan import files
from lct.plan.configuration import CLAIM_SEEDS, CLAIMS, OWN_TABLE
from lct.plan.names import cells_named, nearest, target_names
from lct.plan.plan import Plan


def dry_run_lines(plan: Plan, which: str = "tables") -> list[str]:
    """Every table with its rows, every run with its length, samplers and tables, and what is left out."""
    cells, lines = plan.cells_of(which), []
    for name in plan.tables_of(which):
        rows = sum(cell.table == name for cell in cells)
        lines.append(f"{plan.tables[name].title}: {rows} rows of {name} are computed at {plan.scale_name} scale")
    width = max(map(len, plan.runs_of(which)), default=0)
    for name in plan.runs_of(which):
        run, own = plan.runs[name], [cell for cell in cells if cell.run == name]
        given = "existing weights" if run.weights else "images made elsewhere" if run.samples else ""
        work = given or f"{plan.steps_of(name)} steps of {run.training.batch}"
        seeds, sets = len(plan.seeds_of(name)), len({(cell.weights, cell.sampler) for cell in own})
        tables = ", ".join(dict.fromkeys(cell.table for cell in own))
        lines.append(f"  {name:<{width}}  {seeds} x {work}, {seeds * sets} sets of generated images, for {tables}")
    lines += own_folder_lines(plan) + _floors(plan)
    lines += [f"Left out: {table['title']} ({table['why']}: {table['command']})" for table in left_out(plan, which)]
    return lines


def own_folder_lines(plan: Plan) -> list[str]:
    """What a dataset's settings take from its folder of images."""
    lines = []
    for name, dataset in plan.datasets.items():
        sources = plan.dataset_sources[name]
        if "fitted" in sources["train"]:
            lines.append(
                f"Images of {name}: {dataset.train} for training, {dataset.heldout} held out ({sources['train']})"
            )
        if (why := sources.get("source.labels", "")).startswith("default, since"):
            lines.append(f"Labels of {name}: its class folders ({why}); `labels: none` in its source turns this off")
    return lines


def _floors(plan: Plan) -> list[str]:
    """Where the row of real images is not measured as generated images are: a distance falls with their number."""
    expected, lines = plan.protocol.num_images, []
    for name, dataset in plan.datasets.items():
        home = plan.home(name, "heldout")
        advice = (
            f"more images than these, or fewer samples, measure it as they are ({home})"
            if "fitted" in home
            else f"`heldout: {expected}` or more in {home} measures it as they are"
        )
        if dataset.heldout == 0:
            lines.append(f"Floors of {name}: no image is held out, so there is no row of real images; {advice}")
        elif dataset.heldout < expected and plan.floor_missing(name, "heldout", plan.protocol) is None:
            text = f"{dataset.heldout} held-out images beside {expected} generated ones"
            lines.append(f"Floors of {name}: {text}, so their distances are larger by that alone; {advice}")
    return lines


def left_out(plan: Plan, which: str) -> list[dict[str, str]]:
    """Tables of config/tables/ that a report does not hold: id, title, reason, and the command that makes them."""
    shown, tables = {*plan.tables_of(which), OWN_TABLE}, []
    for name in plan.config.names("tables") if plan.main.dataset is None and not plan.only else []:
        if name in shown:
            continue
        spec = plan.tables.get(name) or plan.config.read(TableSpec, "tables", name, "config/tables")
        scale = plan.scale_name if name in plan.tables else _scale_with(plan, name)
        why = "made on request" if name in plan.tables else f"not part of the {plan.scale_name} scale"
        command = f"snakemake all_tables --config scale={scale}" if scale else "listed by no scale"
        tables.append({"id": name, "title": spec.title, "why": why, "command": command})
    return tables


def _scale_with(plan: Plan, table: str) -> str | None:
    """The first scale, by name, that lists a table."""
    for name in plan.config.names("scales"):  # a damaged file behind the one that lists it does not matter
        values = plan.config.layer("scales", name, "config/scales").values
        if table in (*values.get("tables", ()), *values.get("more_tables", ())):
            return name
    return None


def facts(run: Run, dataset: Dataset, scale_name: str) -> dict[str, Any]:
    """Title -> value, in the order in which people read them. Steps are left out where the data are not counted yet."""
    training, count = run.training, dataset.count
    values: dict[str, Any] = {"scale": scale_name, "run": run.id, "dataset": run.dataset, "method": run.method}
    values |= {"reading": run.note} if run.note else {}
    values |= {"weights": f"{run.weights.path} (no training)"} if run.weights else {}
    if run.samples:
        nfe = "not stated" if run.samples.nfe is None else f"{run.samples.nfe} NFE"
        return values | {"images": f"{run.samples.path} (no training, no sampling)", "samplers": {GIVEN: nfe}}
    side = dataset.resolution // dataset.autoencoder.downsampling
    channels = dataset.autoencoder.latent_channels
    total, trainable = parameters(training.network, channels, side)
    values |= {"latents": [channels, side, side], "parameters": total, "trainable parameters": trainable}
    values["samplers"] = {name: f"{sampler.nfe} NFE" for name, sampler in run.samplers.items()}
    if run.weights is not None or (count is None and training.steps is None):
        return values
    steps = training.schedule_steps(count or 0)
    values |= {"steps of the schedule": steps, "steps taken": training.total_steps(count or 0)}
    values |= {"steps per epoch": training.steps_per_epoch(count)} if training.epochs else {}
    if (curriculum := training.curriculum).kind != "ict":
        return values
    length = curriculum.stage_steps(steps)
    intervals = [curriculum.intervals(stage * length, steps) for stage in range(curriculum.stages)]
    values |= {"steps of a stage": length, "intervals s by stage": intervals}
    values["points N by stage"] = [s + 1 for s in intervals]
    stages = training.c_stages(count, channels * side**2)
    return values | ({"c by stage": [float(f"{stage['c']:.4g}") for stage in stages]} if stages else {})


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
    advice = f"{nearest(name, descriptions(plan))}; snakemake --list shows them all"
    return str(invalid(name, f"a target of scale {plan.scale_name}", "none of this name", advice))


def _unkept_weights(plan: Plan, path: str) -> str | None:
    """One line about a file below results/{scale}/ that is, or is made from, weights that its run does not keep."""
    folders = path.split("/")
    run = folders[3] if folders[:2] == ["results", plan.scale_name] and len(folders) > 5 else ""
    if run not in plan.runs or not plan.runs[run].is_trained or not folders[5].startswith("step"):
        return None
    name, kept = folders[5].removesuffix(".safetensors"), plan.kept_weights(run)
    if name in kept:
        return None
    expected = f"weights that run {run} keeps, of {', '.join(plan.milestones(run))}"
    advice = f"{nearest(name, kept)}; `keep_epochs` or `keep_steps` of its training keeps more"
    return str(invalid(path, expected, name, advice))
