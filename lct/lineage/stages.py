"""The notary's book: which recorded artifact is which stage of dvc.yaml.

`config/recorded.yaml` holds the items, by kind; `dvc.yaml` holds one template per kind. To add a kind: a line in KINDS,
a template in dvc.yaml, `kind: {}` in config/recorded.yaml. `unclaimed` names every declared output without a stage.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lct.config.yaml import load
from lct.files.atomic import write_text
from lct.lineage.archive import Entry
from lct.lineage.graph import Job

RECORDED = "config/recorded.yaml"
_HEADER = "# Artifacts recorded so far, by kind; written by `lct record`, read by dvc.yaml. {} = none recorded.\n"

# kind -> the output that names an artifact (`path`, whose records hold settings and inputs), then further outputs of
# the same job that agree with it in the names they share
KINDS: dict[str, dict[str, str]] = {
    "images": {"path": "results/{scale}/images/{dataset}/train.zip"},
    "autoencoders": {"path": "results/{scale}/autoencoder/{dataset}/diffusion_pytorch_model.safetensors"},
    "extractors": {"path": "results/{scale}/extractor/{dataset}/{extractor}.safetensors"},
    "latents": {"path": "results/{scale}/latents/{dataset}/{encoding}/latents.safetensors"},
    "references": {
        "path": "results/{scale}/features/reference/{dataset}/{extractor}.safetensors",
        "floor_heldout": "results/{scale}/metrics/reference/{dataset}/heldout/{protocol}.json",
        "floor_reconstruction": "results/{scale}/metrics/reference/{dataset}/reconstruction/{protocol}.json",
    },
    "weights": {"path": "results/{scale}/train/{run}/{seed}/step{weights}.safetensors"},
    "given": {"path": "results/{scale}/train/{run}/{seed}/given-{weights}.safetensors"},
    "curves": {"path": "results/{scale}/train/{run}/{seed}/curves.json"},
    "samples": {"path": "results/{scale}/sample/{run}/{seed}/{weights}/{sampler}/{draw}.zip"},
    "metrics": {
        "path": "results/{scale}/metrics/{run}/{seed}/{weights}/{sampler}/{draw}/{protocol}.json",
        "features": "results/{scale}/features/{run}/{seed}/{weights}/{sampler}/{draw}/{extractor}.safetensors",
    },
    "tables": {"path": "results/{scale}/tables/{which}.json"},
    "reports": {"path": "reports/{folder:path}/index.html"},
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of dvc.yaml as it is for one item."""

    kind: str
    id: str  # its key in config/recorded.yaml
    item: dict[str, str]
    outs: tuple[str, ...]
    deps: tuple[str, ...]

    @property
    def name(self) -> str:
        """What DVC calls it."""
        return f"{self.kind}@{self.id}"

    @property
    def path(self) -> str:
        return self.item["path"]


@dataclass(frozen=True)
class _Template:
    outs: tuple[str, ...]
    deps: tuple[str, ...]


class Book:
    """dvc.yaml's templates, expanded for items."""

    def __init__(self, root: Path):
        where, content = root / "dvc.yaml", load(root / "dvc.yaml")
        self.templates: dict[str, _Template] = {}
        for kind in KINDS:
            try:
                stage = content["stages"][kind]["do"]
                outs = [*stage.get("outs", ()), *stage.get("metrics", ())]
                self.templates[kind] = _Template(
                    tuple(map(_path_of, outs)), tuple(map(_path_of, stage.get("deps", ())))
                )
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{where}: stages.{kind}: expected a template with `do`, found none; git checkout -- dvc.yaml"
                ) from error

    def stage(self, kind: str, item: dict[str, str]) -> Stage:
        """The stage of an item. Raises ValueError naming a placeholder that the item does not fill."""
        template = self.templates[kind]
        where = f"dvc.yaml: stages.{kind}"
        return Stage(
            kind=kind,
            id=identifier(item["path"]),
            item=item,
            outs=tuple(_fill(text, item, where) for text in template.outs),
            deps=tuple(_fill(text, item, where) for text in template.deps),
        )

    def stages(self, recorded: dict[str, dict[str, dict[str, str]]]) -> list[Stage]:
        """Every stage of what is recorded."""
        return [self.stage(kind, item) for kind, items in recorded.items() for item in items.values()]

    def of(self, jobs: Iterable[Job], roles: Any) -> list[Stage]:
        """Stages of the outputs of a graph; `roles(path)` gives role -> path of what an output was made from, or None
        where it was not made."""
        found = []
        for job in jobs:
            for kind, names in job_names(job.outputs):
                inputs = roles(names["path"])
                if inputs is not None:
                    found.append(self.stage(kind, item_of(names, inputs)))
        return found

    def unclaimed(self, jobs: Iterable[Job]) -> list[str]:
        """Declared outputs that no stage would hold, and those that two would."""
        count: dict[str, int] = {}
        for job in jobs:
            blank = _Blank()
            for kind, names in job_names(job.outputs):
                stage = self.stage(kind, blank | item_of(names, {}))
                for out in stage.outs:
                    count[out] = count.get(out, 0) + 1
        return sorted(out for job in jobs for out in job.outputs if count.get(out, 0) != 1)


class _Blank(dict):
    """An item whose unknown fields are empty; outs never depend on them."""

    def __or__(self, other: dict[str, str]) -> "_Blank":
        return _Blank({**self, **other})

    def __missing__(self, key: str) -> str:
        return ""


def identifier(path: str) -> str:
    """An artifact's key: its path in characters that a stage's name may have."""
    return re.sub(r"[^a-z0-9_]+", "-", path.removeprefix("results/").lower())


def item_of(names: dict[str, str], inputs: dict[str, str]) -> dict[str, str]:
    """What a template may use of an artifact: its outputs by name, folder, stem and scale, and its inputs by role."""
    path = names["path"]
    roles = {re.sub(r"[^a-z0-9]+", "_", role.lower()): used for role, used in inputs.items() if "/" not in role}
    return {
        **roles,
        **names,
        "scale": path.split("/")[1],
        "folder": path.rpartition("/")[0],
        "stem": path.rpartition(".")[0],
    }


def job_names(outputs: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """(kind, output name -> path) of every artifact that a job makes."""
    found = []
    for kind, patterns in KINDS.items():
        matched = {name: _matches(pattern, outputs) for name, pattern in patterns.items()}
        for path, fields in matched["path"].items():
            names = {"path": path}
            for name, others in matched.items():
                same = [other for other, its in others.items() if all(its[k] == fields[k] for k in its.keys() & fields)]
                names[name] = same[0] if same else path
            found.append((kind, names))
    return found


def _matches(pattern: str, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    regex = re.compile(
        re.sub(r"\\{(\w+)(:path)?\\}", lambda m: f"(?P<{m[1]}>{'.+' if m[2] else '[^/]+'})", re.escape(pattern))
    )
    return {path: match.groupdict() for path in paths if (match := regex.fullmatch(path))}


def _path_of(entry: Any) -> str:
    """An entry of `outs`, `metrics` or `deps`: a path, or a path with options."""
    return entry if isinstance(entry, str) else next(iter(entry))


def _fill(text: str, item: dict[str, str], where: str) -> str:
    try:
        return re.sub(r"\$\{item\.(\w+)\}", lambda m: item[m[1]], text)
    except KeyError as error:
        raise ValueError(
            f"{where}: {text}: expected a field that {RECORDED} has, found {error}, which {item['path']} has not; git "
            f"checkout -- {RECORDED}, or fix the template"
        ) from None


def read_recorded(root: Path) -> dict[str, dict[str, dict[str, str]]]:
    """config/recorded.yaml: kind -> id -> item."""
    content = load(root / RECORDED)
    for kind, items in content.items():
        if kind not in KINDS or not isinstance(items, dict) or not all(_is_item(item) for item in items.values()):
            raise ValueError(
                f"{root / RECORDED}: {kind}: expected artifacts of a kind of {sorted(KINDS)}, found something else; "
                f"git checkout -- {RECORDED}"
            )
    return {kind: content.get(kind, {}) for kind in KINDS}


def _is_item(item: Any) -> bool:
    return isinstance(item, dict) and "path" in item and all(isinstance(value, str) for value in item.values())


def write_recorded(root: Path, recorded: dict[str, dict[str, dict[str, str]]]) -> None:
    """Replace config/recorded.yaml: kinds in their order, entries sorted."""
    lines = [_HEADER]
    for kind in KINDS:
        items = recorded.get(kind, {})
        lines.append(yaml.safe_dump({kind: items}, sort_keys=True, width=1000, allow_unicode=True))
    write_text(root / RECORDED, "".join(lines))


def drift(book: Book, jobs: list[Job], stages: list[Stage], entries: dict[str, Entry]) -> list[str]:
    """How what is recorded differs from the graph: one line per fault, none when path, inputs and settings agree."""
    makers = {path: job for job in jobs for path in job.outputs}
    faults = [f"{path}: declared by the graph, but the out of no stage, or of two" for path in book.unclaimed(jobs)]
    for stage in stages:
        job = makers.get(stage.path)
        if job is None:
            faults.append(f"{stage.name}: {stage.path} is recorded, but the graph does not declare it")
            continue
        faults += [f"{stage.name}: {out}: made by another job" for out in stage.outs if makers.get(out) is not job]
        inputs = {*job.inputs, *(f"{parent}" for path in job.inputs for parent in Path(path).parents)}
        faults += [f"{stage.name}: {dep}: not an input of {job.rule}" for dep in stage.deps if dep not in inputs]
        entry = entries.get(stage.path)
        if entry is None or entry.settings is None:
            faults.append(f"{stage.name}: {stage.path}: no settings in lineage/")
            continue
        used = {one["path"] for one in entry.inputs.values()}
        held = [path for path in used if not any(path == dep or path.startswith(f"{dep}/") for dep in stage.deps)]
        faults += [
            f"{stage.name}: {path}: it was made from this, but dvc.yaml has no such dep" for path in sorted(held)
        ]
        if job.settings is not None and entry.settings.get("settings") != job.settings:
            faults.append(f"{stage.name}: recorded settings differ from the graph's; `lct why` names them")
    return faults
