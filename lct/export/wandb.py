"""Training curves, metrics and samples in Weights & Biases. Its package is an extra: pip install -e ".[wandb]"."""

import importlib.util
from pathlib import Path

from lct.config.schema import plain
from lct.files.atomic import read_json
from lct.plan.paths import grid
from lct.plan.plan import Plan


def log(plan: Plan, root: Path, which: str, project: str) -> list[str]:
    """Log every training that has curves to a project; return the names of the logged runs."""
    if importlib.util.find_spec("wandb") is None:
        raise ValueError("--to wandb: expected the package wandb, found none; `pip install wandb && wandb login`")
    names = []
    for run, seed in sorted({(s.run, s.seed) for cell in plan.cells_of(which) for s in cell.sets}):
        path = root / plan.paths.train(run, seed) / "curves.json"
        if path.exists():
            names.append(_log_run(plan, root, which, project, run, seed, read_json(path)))
    return names


def _log_run(plan: Plan, root: Path, which: str, project: str, run: str, seed: int, curves: dict[str, list]) -> str:
    import wandb

    name = f"{run}-s{seed}"
    config = {"scale": plan.scale_name, "seed": seed, "training": plain(plan.runs[run].training)}
    logger = wandb.init(project=project, name=name, group=run, config=config)
    for i, step in enumerate(curves["step"]):
        logger.log({key: v[i] for key, v in curves.items() if key != "step" and v[i] is not None}, step=step)
    for cell in plan.cells_of(which):
        for s in cell.sets:
            if (s.run, s.seed) == (run, seed):
                metrics = root / plan.paths.metrics(*s, plan.protocol.id)
                values = read_json(metrics)["values"] if metrics.exists() else {}
                logger.summary.update({f"{cell.sampler}/{m}": v for m, v in values.items() if v is not None})
                picture = root / grid(plan.paths.samples(*s))
                if picture.exists():
                    logger.log({f"{cell.sampler}/samples": wandb.Image(str(picture))})
    logger.finish()
    return name
