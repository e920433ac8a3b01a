"""What verbs and dry runs print about a plan and its runs, and the tables that a report leaves out."""

from typing import Any

from lct.config.model import GIVEN, Dataset, Run
from lct.config.published import TableSpec
from lct.losses.robust import ROBUST
from lct.networks.layout import parameters
from lct.plan.configuration import OWN_TABLE
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
            lines.append(
                f"Floors of {name}: {dataset.heldout} held-out images beside {expected} generated ones, so their "
                f"distances are larger by that alone; {advice}"
            )
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
    for name in plan.config.names("scales"):
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
    return values | (_stages(run, steps, channels * side**2) if training.curriculum.kind == "ict" else {})


def _stages(run: Run, steps: int, dimension: int) -> dict[str, Any]:
    """Intervals, points and c of each stage of the curriculum. dimension: number of values of a latent."""
    curriculum, objective = run.training.curriculum, run.training.objective
    length = curriculum.stage_steps(steps)
    intervals = [curriculum.intervals(stage * length, steps) for stage in range(curriculum.stages)]
    values: dict[str, Any] = {"steps of a stage": length, "intervals s by stage": intervals}
    values["points N by stage"] = [s + 1 for s in intervals]
    if objective.loss in ROBUST:
        scales = [objective.scale.c(s, curriculum.s0, dimension, run.training.grid) for s in intervals]
        values["c by stage"] = [float(f"{c:.4g}") for c in scales]
    return values
