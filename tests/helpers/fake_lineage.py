"""A small project with the paths, records and stages of the real one, whose jobs take no time.

`make` writes a Snakefile over `graph.json`; `finish` makes every output as the jobs would, without Snakemake, and tells
Snakemake so; `snakemake` in that folder runs the jobs for real.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from lct.files.hashing import sha256_file
from lct.files.records import run_path, settings_path
from lct.lineage import registry
from lct.lineage.audit import Auditor
from lct.lineage.dvc import read_lock
from lct.lineage.snakemake_adapter import write_metadata
from lct.lineage.stages import dvc_yaml
from tests.helpers import ROOT
from tests.helpers.fake_job import jobs_in, write_outputs
from tests.helpers.warm import CLIENT

CODE = f"{ROOT}{os.pathsep}{CLIENT}"  # PYTHONPATH of programs in such a project
SNAKEFILE = """
import json
from lct.files.records import run_path, settings_path
from lct.lineage.snakemake_adapter import decide_by_records
decide_by_records()
OWN = config.get("dataset") or config.get("only")
JOBS = json.load(open(f"graph-{OWN}.json" if OWN else "graph.json"))
def text(value):
    return lambda wildcards: value
rule all:
    default_target: True
    input: [path for job in JOBS for path in job["outputs"] if "/sample/" not in path or path.endswith(".png")]
rule all_tables:
    input: rules.all.input
rule unlisted:
for _job in JOBS:
    rule:
        name: _job["rule"]
        input: _job["inputs"]
        output: _job["outputs"], [str(of(path)) for path in _job["roles"] for of in (settings_path, run_path)]
        params: settings=text(json.dumps(_job["settings"], sort_keys=True)), name=_job["rule"]
        shell: "python make.py {params.name}"
"""
MAKE = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.helpers.fake_job import jobs_in, write_outputs
write_outputs(Path("."), jobs_in(Path("."))[sys.argv[1]])
"""
PROFILE = {"cores": 1, "rerun-triggers": ["mtime", "params", "input"], "max-checksum-file-size": "100GB"}
PROFILE |= {"rerun-incomplete": True, "nolock": True, "quiet": ["all"]}


def job(rule: str, outputs: list[str], inputs: dict[str, str], records: list[str] | None = None, size: int = 0) -> dict:
    """A job: its outputs, its inputs by role, those of its outputs that have records, a setting."""
    roles = {path: inputs for path in (outputs if records is None else records)}
    settings = {"recipe": 1, "training": {"lr": 0.001, "more": {f"key_{i}": i for i in range(size)}}}
    return {"rule": rule, "outputs": outputs, "inputs": list(inputs.values()), "roles": roles, "settings": settings}


def graph(scale: str = "toy", runs: int = 2, sets: int = 1, size: int = 0) -> list[dict]:
    """Jobs of a scale with one dataset; `runs` trainings with `sets` sample sets each; `size` settings a job."""
    r = f"results/{scale}"
    images, vae, latents = f"{r}/images/d", f"{r}/autoencoder/d", f"{r}/latents/d/posterior"
    sides = {side: f"{images}/{side}.manifest.json" for side in ("train", "heldout")}
    vae_files = {"config.json": f"{vae}/config.json"}
    vae_files |= {"diffusion_pytorch_model.safetensors": f"{vae}/diffusion_pytorch_model.safetensors"}
    extractor, reference = f"{r}/extractor/d/cnn.safetensors", f"{r}/features/reference/d/cnn.safetensors"
    encoded = [f"{latents}/{name}" for name in ("latents.safetensors", "statistics.safetensors", "summary.json")]
    zips = [f"{latents}/reconstructed-{side}.zip" for side in sides]
    manifests = [path.replace(".zip", ".manifest.json") for path in zips]
    floors = [f"{r}/metrics/reference/d/{floor}/fd.json" for floor in ("heldout", "reconstruction")]
    made = [f"{images}/{side}.zip" for side in sides]
    jobs = [
        job("images", [*made, *sides.values(), f"{images}/train.grid.png"], {}, made),
        job("autoencoder", list(vae_files.values()), {"images": sides["train"]}),
        job("extractor", [extractor, extractor.replace(".safetensors", ".summary.json")], sides),
        job("encode", [*encoded, *zips, *manifests, f"{latents}/reconstructions.grid.png"], sides | vae_files,
            [*encoded, *zips]),
        job("reference", [reference, *floors], sides | {"reconstructed": manifests[0], "extractor": extractor,
                                                        "reconstructed-heldout": manifests[1]}),
    ]  # fmt: skip
    scored = []
    for run in (f"run-{i}" for i in range(runs)):
        weights = f"{r}/train/{run}/s0/step40-ema0.9.safetensors"
        trained = {"latents": encoded[0], "statistics": encoded[1]}
        jobs.append(job(f"train_{run}", [weights, f"{r}/train/{run}/s0/curves.json"], trained, size=size))
        for sampler in (f"one-{i}" for i in range(sets)):
            where = f"{run}/s0/step40-ema0.9/{sampler}/d0"
            sampled = {"weights": weights, "statistics": encoded[1], **vae_files}
            zipped = f"{r}/sample/{where}.zip"
            manifest, grid = (zipped.replace(".zip", end) for end in (".manifest.json", ".grid.png"))
            jobs.append(job(f"sample_{run}_{sampler}", [zipped, manifest, grid], sampled, [zipped], size))
            outputs = [f"{r}/features/{where}/cnn.safetensors", f"{r}/metrics/{where}/fd.json"]
            inputs = {"samples": manifest, "reference": reference, "extractor": extractor}
            jobs.append(job(f"score_{run}_{sampler}", outputs, inputs, size=size))
            scored.append(outputs[1])
    tables, report = f"{r}/tables/tables.json", f"reports/{scale}"
    jobs.append(job("tables", [tables], {path: path for path in [*scored, *floors]}))
    names = ("index.html", "report.md", "tables.tex", "tables.csv", "audit.html", "evidence.html", "numbers.tex")
    pages = [f"{report}/{name}" for name in names]
    return [*jobs, *fetched(r), job("report", pages, {"tables": tables})]


def fetched(r: str) -> list[dict]:
    """Jobs of a second dataset, whose images and autoencoder are downloads."""
    images, vae, net = f"{r}/images/e", f"{r}/autoencoder/e", "resources/net/download.json"
    made = [f"{images}/{side}.zip" for side in ("train", "heldout")]
    sides = [path.replace(".zip", ".manifest.json") for path in made]
    return [
        job("download_e", ["resources/e/download.json"], {}),
        job("download_net", [net], {}),
        job("images_e", [*made, *sides, f"{images}/train.grid.png"], {"download": "resources/e/download.json"}, made),
        job("autoencoder_e", [f"{vae}/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors")],
            {"images": sides[0], "download.json": net}),
    ]  # fmt: skip


def make(folder: Path, jobs: list[dict] | None = None, git: bool = True) -> Path:
    """The project, nothing computed."""
    (folder / "config").mkdir(parents=True)
    for name in (".dvcignore", ".gitattributes", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.yaml").write_text(dvc_yaml({}))
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "make.py").write_text(MAKE.format(tests=str(ROOT)))
    (folder / "profiles/default").mkdir(parents=True)
    (folder / "profiles/default/config.yaml").write_text(json.dumps(PROFILE))
    write_jobs(folder, graph() if jobs is None else jobs)
    if git:
        for words in (["init", "-q"], ["config", "user.name", "t"], ["config", "user.email", "t@t"]):
            subprocess.run(["git", *words], cwd=folder, check=True)
        commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", message], cwd=folder, check=True)


def write_jobs(folder: Path, jobs: list[dict]) -> None:
    (folder / "graph.json").write_text(json.dumps(jobs))


def finish(folder: Path, only: set[str] | None = None) -> None:
    """Every job, or those in `only`, done in order, as if Snakemake had run them."""
    for one in jobs_in(folder).values():
        if only is not None and one["rule"] not in only:
            continue
        write_outputs(folder, one)
        known = {
            "rule": one["rule"],
            "input": sorted(one["inputs"]),
            "log": [],
            "params": sorted(map(repr, (json.dumps(one["settings"], sort_keys=True), one["rule"]))),
            "code": "python make.py {params.name}",
            "record_format_version": 6,
            "software_stack_hash": hashlib.md5(usedforsecurity=False).hexdigest(),
            "input_checksums": {path: f"sha256:{sha256_file(folder / path)}" for path in one["inputs"]},
        }
        for path in one["outputs"]:
            beside = [str(of(path)) for of in (settings_path, run_path)] if path in one["roles"] else []
            for name in (path, *beside):
                write_metadata(folder, name, known, 1.0, (folder / name).stat().st_mtime)


def as_recorded_before(folder: Path) -> None:
    """Turn a recorded project into one that the version before has recorded, and commit it: one stage for each
    file with records in config/recorded.yaml and dvc.lock, templates in dvc.yaml, no files for DVC's own verbs."""
    lock, entries = read_lock(folder), registry.read(folder, "toy")
    files = {stored.path: stored for stored in lock.all()}
    kinds: dict[str, dict[str, dict[str, str]]] = {}
    blocks: dict[str, dict] = {}

    def stored(path: str) -> dict:
        return {"path": path, "hash": "md5", "md5": files[path].md5, "size": files[path].bytes}

    alone = {path for path, entry in entries.items() if entry.settings is None}
    for path, entry in entries.items():
        if entry.settings is None:
            continue
        kind, key = path.split("/")[-2], path.replace("/", "-").replace(".", "-")
        beside = sorted(other for other in alone if entries[other].job == entry.job)
        alone -= set(beside)
        kinds.setdefault(kind, {})[key] = {"path": path}
        blocks[f"{kind}@{key}"] = {
            "cmd": f"snakemake {path}",
            "deps": [stored(used["path"]) for used in entry.inputs.values()],
            "params": {f"{path}.settings.json": entry.settings},
            "outs": [stored(out) for out in (path, *beside)],
        }
    outs = ["${item.path}"]
    templates = {
        kind: {"foreach": f"${{{kind}}}", "do": {"cmd": "snakemake ${item.path}", "outs": outs}} for kind in kinds
    }
    (folder / "config/recorded.yaml").write_text(yaml.safe_dump(kinds))
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"vars": ["config/recorded.yaml"], "stages": templates}))
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": blocks}, sort_keys=False))
    shutil.rmtree(folder / "lineage/toy")
    commit(folder, "recorded by the version before")


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # jobs call `python`
    environment = os.environ | {"PYTHONPATH": CODE, "PATH": here}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def auditor(folder: Path, deep: bool = False) -> Auditor:
    """What `lct audit`, `verify` and `status` ask."""
    planned = {}
    for job in jobs_in(folder).values():
        for path in job["roles"]:
            owners = path.split("/")[1:2] if path.startswith("resources/") else path.split("/")[3:5]
            stage = job["rule"].partition("_")[0]
            planned |= {(stage, owner.removesuffix(".json")): job["settings"] for owner in owners[:1]}
            if owners[:1] == ["reference"]:
                planned[stage, owners[1]] = job["settings"]
    return Auditor(folder, registry.read(folder, "toy"), read_lock(folder), lambda *job: planned.get(job), deep=deep)
