"""A recorded project in seconds: real configuration, made-up contents, records, archive, dvc.lock, DVC's cache."""

import hashlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from lct.files.atomic import write_json
from lct.lineage import dvc, registry
from lct.lineage.registry import Entry
from lct.plan import files as stage_files
from lct.plan.paths import AUTOENCODER_FILES, FLOORS, LATENT_FILES, RECONSTRUCTIONS, grid, manifest
from lct.plan.plan import Plan
from lct.plan.settings import of_file, planned
from tests.helpers import ROOT

BIG = 1_100_000  # bytes of weights: above what is hashed without --deep
STAGES = {"score": 0.2, "sample": 2.0, "train": 60.0}  # seconds of a job; others 1.0
GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}


def git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, env=os.environ | GIT
    )
    return done.stdout.strip()


def digest(content: bytes, kind: str = "sha256") -> str:
    return hashlib.new(kind, content).hexdigest()


def inputs(plan: Plan) -> dict[str, tuple[str, dict[str, str]]]:
    """Path of every file with records -> its stage and what it was made from, much as the jobs say it."""
    paths, found = plan.paths, {}
    for dataset in plan.datasets:
        sides = {side: manifest(paths.images(dataset, side)) for side in ("train", "heldout")}
        vae = {name: f"{paths.autoencoder(dataset)}/{name}" for name in AUTOENCODER_FILES}
        found |= {paths.images(dataset, side): ("images", {}) for side in sides}
        found |= {path: ("autoencoder", {"images": sides["train"]}) for path in vae.values()}
        encoded = [*LATENT_FILES, *(f"{name}.zip" for name in RECONSTRUCTIONS)]
        found |= {stage_files.latents(plan, dataset, name): ("encode", sides | vae) for name in encoded}
        extractor, reference = real(plan, dataset)
        found |= {
            path: ("extractor", sides) for path in (extractor, extractor.replace(".safetensors", ".summary.json"))
        }
        read = sides | {"extractor": extractor}
        read["reconstructed"] = manifest(stage_files.latents(plan, dataset, "reconstructed-train.zip"))
        floors = [paths.floor_metrics(dataset, floor, plan.protocol.id) for floor in FLOORS]
        found |= {path: ("reference", read) for path in (reference, *floors)}
    for name, run in plan.runs.items():
        latents = {of: stage_files.latents(plan, run.dataset, f"{of}.safetensors") for of in ("latents", "statistics")}
        vae = {file: f"{paths.autoencoder(run.dataset)}/{file}" for file in AUTOENCODER_FILES}
        measured = dict(zip(("extractor", "reference"), real(plan, run.dataset), strict=True))
        stage, made = ("train", latents) if run.weights is None else ("take", {})
        for seed in plan.seeds_of(name):
            found |= {paths.weights(name, seed, one): (stage, made) for one in plan.kept_weights(name)}
            for weights, sampler, draw in plan.sample_sets(name):
                images = paths.samples(name, seed, weights, sampler, draw)
                read = {"weights": paths.weights(name, seed, weights), "statistics": latents["statistics"]} | vae
                found[images] = ("sample", read)
                scored = paths.metrics(name, seed, weights, sampler, draw, plan.protocol.id)
                found[scored] = ("score", {"samples": manifest(images)} | measured)
    return found


def real(plan: Plan, dataset: str) -> tuple[str, str]:
    """Extractor and reference statistics of a dataset."""
    results = f"results/{plan.scale_name}"
    return (
        f"{results}/extractor/{dataset}/cnn64.safetensors",
        f"{results}/features/reference/{dataset}/real.safetensors",
    )


def content_of(path: str, stage: str, version: int) -> bytes:
    """Made-up content that depends on the path, and for metrics and samples on `version`."""
    seed = f"{path} {version if stage in ('score', 'sample', 'train') else 0}".encode()
    if "/metrics/" in path:
        number = int(digest(seed)[:4], 16) / 1000
        sets = {"sets": [{"name": "train", "count": 256}], "format": "png"}
        protocol = {"id": "fake", "k": 3, "reference": sets, "generated": {"count": 64, "format": "png"}}
        protocol["distance"] = {"extractor": "cnn64"}
        protocol["recall"] = {"extractor": "cnn64", "generated": 64, "reference": 64, "k": 3, "distances": "float64"}
        text = json.dumps(protocol, sort_keys=True, separators=(",", ":")).encode()
        values = {"fd": number, "fdr": number / 2, "precision": 0.5, "recall": 0.25, "confidence": None}
        made = {"format": 1, "num_images": 64, "protocol": protocol, "protocol_hash": digest(text), "values": values}
        return (json.dumps(made, indent=1, sort_keys=True) + "\n").encode()
    if path.endswith("summary.json"):
        made = {"psnr_heldout": 20.0, "psnr_train": 21.0, "accuracy": 0.9, "images": "held-out", "task": "digits"}
        return json.dumps(made | {"tails": {"excess_kurtosis": 0.1, "outlier_share": 0.01}}).encode()
    if path.endswith(".png"):
        image = Image.new("RGB", (32, 16), tuple(hashlib.sha256(seed).digest()[:3]))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()
    return hashlib.sha256(seed).digest() * (BIG // 32 if "/train/" in path and path.endswith("safetensors") else 8)


class Project:
    """A project folder whose files and records are made up, but agree with each other."""

    def __init__(self, root: Path, scale: str = "smoke", big: bool = True):
        self.root, self.scale, self.big = root, scale, big
        root.mkdir(parents=True)
        shutil.copytree(ROOT / "config", root / "config")
        (root / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", root / ".dvc" / "config")
        (root / "requirements.lock").write_text("torch==2.0\n")
        (root / ".gitignore").write_text("results/\nreports/\n.dvc/cache/\n")
        git(root, "init", "-q", "-b", "main")
        self.commit("configuration")

    def commit(self, message: str) -> str:
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", message)
        return git(self.root, "rev-parse", "HEAD")

    def compute(self, version: int = 0) -> None:
        """Write every output of the graph with its records, tables and report left out."""
        plan = Plan(self.root, {"scale": self.scale})
        settings, revision = planned(plan), git(self.root, "rev-parse", "HEAD")
        lock = digest((self.root / "requirements.lock").read_bytes())
        hashes: dict[str, str] = {}
        for path, (stage, read) in inputs(plan).items():
            self._write(path, content_of(path, stage, version), hashes)
            if path.endswith(".zip"):
                self._image_set(path, stage, version, hashes)
            seeds = {"train": int(path.split("/")[4][1:])} if stage == "train" else {}
            wanted = of_file(settings, stage, path)
            recorded = {"format": 1, "stage": stage, "settings": wanted, "seeds": seeds}
            recorded["inputs"] = {role: {"path": one, "sha256": hashes[one]} for role, one in read.items()}
            self.records(path, recorded, self._run(path, stage, revision, lock))

    def _write(self, path: str, content: bytes, hashes: dict[str, str]) -> None:
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        if not self.big:
            content = content[:4096]
        full.unlink(missing_ok=True)
        full.write_bytes(content)
        hashes[path] = digest(content)

    def _image_set(self, path: str, stage: str, version: int, hashes: dict[str, str]) -> None:
        size = (self.root / path).stat().st_size
        described = {"bytes": size, "sha256": hashes[path], "file": Path(path).name, "count": 64}
        self._write(manifest(path), (json.dumps(described, indent=1, sort_keys=True) + "\n").encode(), hashes)
        self._write(grid(path), content_of(grid(path), stage, version), hashes)

    def _run(self, path: str, stage: str, revision: str, lock: str) -> dict[str, Any]:
        seconds = STAGES.get(stage, 1.0)
        return {
            "format": 1,
            "stage": stage,
            "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:01:00+00:00",
            "seconds": seconds,
            "cpu_seconds": 2 * seconds,
            "peak_memory_bytes": 1000,
            "device": "cuda",
            "host": "node7",
            "machine": "x86_64, 8 cpus",
            "python": "3.11.7",
            "packages": {"torch": "2.0", "scikit-learn": "1.9.1"},
            "environment_lock_sha256": lock,
            "git": {"revision": revision, "dirty": False},
            "slurm": {"SLURM_JOB_ID": "4711"},
            "command": [f"{stage}.py", "--out", path],
        }

    def records(self, path: str, settings: dict[str, Any], run: dict[str, Any]) -> None:
        content = (self.root / path).read_bytes()
        output = {"path": path, "bytes": len(content), "sha256": digest(content)}
        write_json(self.root / f"{path}.settings.json", settings)
        write_json(self.root / f"{path}.run.json", run | {"output": output})

    def record(self) -> None:
        """Archive, dvc.lock and DVC's cache from what is in the workspace."""
        entries, stages = {}, {}
        for full in sorted(p for top in ("results", "reports") for p in (self.root / top).rglob("*")):
            path = str(full.relative_to(self.root))
            if full.is_dir() or path.endswith((".settings.json", ".run.json")):
                continue
            content = full.read_bytes()
            read = {of: self.root / f"{path}.{of}.json" for of in ("settings", "run")}
            own = {of: json.loads(one.read_text()) if one.exists() else None for of, one in read.items()}
            entries[path] = Entry(path, len(content), digest(content), digest(content, "md5"), **own)
            stored = dvc.stored_object(dvc.cache_folder(self.root), entries[path].md5)
            if not stored.exists():
                stored.parent.mkdir(parents=True, exist_ok=True)
                stored.write_bytes(content)
                stored.chmod(0o444)
        for i, (path, entry) in enumerate(entries.items()):
            if entry.settings is not None:
                used = [one["path"] for one in entry.settings["inputs"].values()]
                out = {"path": path, "hash": "md5", "md5": entry.md5, "size": entry.bytes}
                deps = [
                    {"path": one, "hash": "md5", "md5": entries[one].md5, "size": entries[one].bytes} for one in used
                ]
                stage = {"cmd": f"snakemake {path}", "deps": deps, "outs": [out]}
                stages[f"files@{i}"] = stage | {"params": {f"{path}.settings.json": entry.settings}}
        registry.write(self.root, self.scale, entries)
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.dump({"schema": "2.0", "stages": stages}, Dumper=dumper, sort_keys=False)
        (self.root / "dvc.lock").write_text(text)

    def collect(self) -> None:
        """tables.json and the report, with their records."""
        from lct.lineage.cells import report_audits
        from lct.report import audit
        from lct.report.collect import collect
        from lct.report.render import render
        from lct.report.tables import dump

        plan = Plan(self.root, {"scale": self.scale})
        path = plan.paths.tables("tables")
        collected = collect(plan, self.root)
        write_json(self.root / path, dump(collected))
        revision = git(self.root, "rev-parse", "HEAD")
        settings = {"format": 1, "stage": "tables", "seeds": {}, "inputs": {}}
        settings["settings"] = planned(plan)("tables", "tables")
        self.records(path, settings, self._run(path, "tables", revision, "0" * 64))
        contents = render(collected, self.root)
        audits = report_audits(plan, self.root, [c.id for _, _, row in collected.rows for c in row.cells.values()])
        contents["audit.html"] = audit.page(audits, report="index.html")
        for name, content in contents.items():
            shown = self.root / plan.paths.report(name)
            shown.parent.mkdir(parents=True, exist_ok=True)
            shown.write_text(content, encoding="utf-8")
            settings = {"format": 1, "stage": "report", "seeds": {}, "inputs": {}, "settings": {"recipe": 1}}
            self.records(plan.paths.report(name), settings, self._run(path, "report", revision, "0" * 64))
