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
from lct.lineage.graph import Job
from lct.lineage.registry import Entry

RECORDED = "config/recorded.yaml"
_HEADER = "# Artifacts recorded so far, by kind; written by `lct record`, read by dvc.yaml. {} = none recorded.\n"

SHARED = "resources"  # the scale of what all scales share

_DOWNLOAD = "resources/{download}/download.json"
_REFERENCE = "results/{scale}/features/reference/{dataset}/{protocol}.safetensors"
_FLOOR = "results/{scale}/metrics/reference/{dataset}/{floor}/{protocol}.json"
_FIGURE = "results/{scale}/figures/{figure}/{dataset}.json"
_SET = "{run}/{seed}/{weights}/{sampler}/{draw}"

# kind -> (pattern of the output that names an artifact, whose records hold settings and inputs; pattern of an input
# that an artifact of this kind must have, or None). The first kind that fits an output is its kind.
KINDS: dict[str, tuple[str, str | None]] = {
    "downloads": (_DOWNLOAD, None),
    "fetched_images": ("results/{scale}/images/{dataset}/train.zip", _DOWNLOAD),
    "images": ("results/{scale}/images/{dataset}/train.zip", None),
    "fetched_autoencoders": ("results/{scale}/autoencoder/{dataset}/diffusion_pytorch_model.safetensors", _DOWNLOAD),
    "autoencoders": ("results/{scale}/autoencoder/{dataset}/diffusion_pytorch_model.safetensors", None),
    "extractors": ("results/{scale}/extractor/{dataset}/{extractor}.safetensors", None),
    "latents": ("results/{scale}/latents/{dataset}/{encoding}/latents.safetensors", None),
    "figures": (_FIGURE, "results/{scale}/images/{dataset}/train.manifest.json"),
    "drawings": (_FIGURE, None),
    "fetched_references": (_REFERENCE, _DOWNLOAD),
    "references": (_REFERENCE, None),
    "fetched_floors": (_FLOOR, _DOWNLOAD),
    "floors": (_FLOOR, None),
    "weights": ("results/{scale}/train/{run}/{seed}/step{weights}.safetensors", None),
    "given": ("results/{scale}/train/{run}/{seed}/given-{weights}.safetensors", None),
    "curves": ("results/{scale}/train/{run}/{seed}/curves.json", None),
    "samples": (f"results/{{scale}}/sample/{_SET}.zip", None),
    "fetched_features": (f"results/{{scale}}/features/{_SET}/{{view}}.safetensors", _DOWNLOAD),
    "features": (f"results/{{scale}}/features/{_SET}/{{view}}.safetensors", None),
    "fetched_metrics": (f"results/{{scale}}/metrics/{_SET}/{{protocol}}.json", _DOWNLOAD),
    "metrics": (f"results/{{scale}}/metrics/{_SET}/{{protocol}}.json", None),
    "neighbours": (f"results/{{scale}}/neighbours/{_SET}.json", None),
    "tables": ("results/{scale}/tables/{which:path}.json", None),
    "reports": ("reports/{folder:path}/index.html", None),
    "pages": ("reports/{folder:path}/cells/{page}.html", None),
    "pictures": ("reports/{folder:path}/figures/{picture}.svg", None),
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
            for kind, names in artifacts(job):
                inputs = roles(names["path"])
                if inputs is not None:
                    found.append(self.stage(kind, item_of(names, inputs)))
        return found

    def unclaimed(self, jobs: Iterable[Job]) -> list[str]:
        """Declared outputs that no stage would hold, and those that two would."""
        count: dict[str, int] = {}
        for job in jobs:
            blank = _Blank()
            for kind, names in artifacts(job):
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
    """What a template may use of an artifact: the fields of its path, its folder, stem and scale, and its inputs by
    role; a role such as extractor-cnn64 that is the only one of its first word also goes by that word."""
    path = names["path"]
    roles = {_field(role): used for role, used in inputs.items() if "/" not in role}
    words = [_field(role.partition("-")[0]) for role in inputs if "/" not in role]
    alone = {word: used for word, used in zip(words, roles.values(), strict=True) if words.count(word) == 1}
    first, second = path.split("/")[:2]
    return {
        **names,
        **alone,
        **roles,
        "path": path,
        "scale": SHARED if first == SHARED else second,
        "folder": path.rpartition("/")[0],
        "stem": path.rpartition(".")[0],
    }


def _field(role: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", role.lower())


def artifacts(job: Job) -> list[tuple[str, dict[str, str]]]:
    """(kind, {"path": ..., field of its pattern: ...}) of every artifact that a job makes."""
    found, claimed = [], set()
    for kind, (pattern, source) in KINDS.items():
        if source is None or _matches(source, job.inputs):
            for path, fields in _matches(pattern, job.outputs).items():
                if path not in claimed:
                    claimed.add(path)
                    found.append((kind, {**fields, "path": path}))
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
        used = {one["path"] for one in entry.inputs.values() if not one["path"].startswith("config/")}  # in git itself
        held = [path for path in used if not any(path == dep or path.startswith(f"{dep}/") for dep in stage.deps)]
        faults += [
            f"{stage.name}: {path}: it was made from this, but dvc.yaml has no such dep" for path in sorted(held)
        ]
        if job.settings is not None and entry.settings.get("settings") != job.settings:
            faults.append(f"{stage.name}: recorded settings differ from the graph's; `lct why` names them")
    return faults
