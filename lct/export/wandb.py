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
    import wandb

    names = []
    for run, seed in sorted({(s.run, s.seed) for cell in plan.cells_of(which) for s in cell.sets}):
        path = root / plan.paths.train(run, seed) / "curves.json"
        if not path.exists():
            continue
        names.append(f"{run}-s{seed}")
        config = {"scale": plan.scale_name, "seed": seed, "training": plain(plan.runs[run].training)}
        logger, curves = wandb.init(project=project, name=names[-1], group=run, config=config), read_json(path)
        for i, step in enumerate(curves["step"]):
            logger.log({key: v[i] for key, v in curves.items() if key != "step" and v[i] is not None}, step=step)
        sets = [s for cell in plan.cells_of(which) for s in cell.sets if (s.run, s.seed) == (run, seed)]
        for s in sets:
            metrics = root / plan.paths.metrics(*s, plan.protocol.id)
            values = read_json(metrics)["values"] if metrics.exists() else {}
            logger.summary.update({f"{s.sampler}/{m}": v for m, v in values.items() if v is not None})
            picture = root / grid(plan.paths.samples(*s))
            if picture.exists():
                logger.log({f"{s.sampler}/samples": wandb.Image(str(picture))})
        logger.finish()
    return names
