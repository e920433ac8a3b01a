"""Two people record at once, in two clones with a folder as DVC's remote; `git pull` joins both without loss.

In one scale, one of them makes three further seeds, the other two rows, and both the same run; each also makes a scale
of its own. Then both record other content of one file.
"""

import shutil
import sys
from pathlib import Path

from situation import PAGES, base, clone, due, extend, git, graph_of, lct, push, verified

from lct.lineage import merge, registry, restore
from tests.helpers import fake_lineage as fake

WEIGHTS = "results/toy/train/run-5/s0/step40-ema0.9.safetensors"


def recorded_runs(folder: Path) -> set[str]:
    return {"/".join(path.split("/")[3:5]) for path in registry.read(folder, "toy") if "/train/" in path}


def check_whole(folder: Path, name: str, declared: dict[str, list[dict]]) -> None:
    """A fresh clone restores everything from the remote; nothing is due in any scale, and all is as recorded."""
    fresh = clone(folder, name, [])
    done = lct(fresh, "restore", "--pull")
    assert done.returncode == 0, done.stdout + done.stderr
    for scale, jobs in declared.items():
        fake.write_jobs(fresh, jobs)
        assert not due(fresh), (scale, due(fresh))
        findings = verified(fresh, scale)
        assert findings.faults == [] and findings.checked, (scale, findings.faults[:5])
    print(f"{name}: `lct restore --pull`: {done.stdout.splitlines()}; nothing to be done, `lct verify` has no fault")


def main(folder: Path) -> None:
    base(folder)
    sides = {}
    for name, scale, runs in (("ours", "one", ("0/s1", "0/s2", "0/s3", "4")), ("theirs", "two", ("2", "3", "4"))):
        sides[name] = path = clone(folder, name, [])
        shutil.copytree(folder / "cache-base", folder / f"cache-{name}")
        assert restore.restore(path, "toy").absent == []
        extend(path, scale, fake.graph(scale, runs=1))
        extend(path, "toy", graph_of("0", *runs))
        push(path, name)
    ours, theirs = sides["ours"], sides["theirs"]
    every = graph_of("0", "0/s1", "0/s2", "0/s3", "2", "3", "4")
    declared = {"toy": every, "one": fake.graph("one", runs=1), "two": fake.graph("two", runs=1)}

    plain = clone(folder, "plain", every)
    git(plain, "reset", "--hard", "origin/ours")
    pulled = git(plain, "pull", "--no-rebase", "origin", "theirs")
    assert pulled.returncode != 0 and "CONFLICT" in pulled.stdout, "without the driver git merges lines"
    done = lct(plain, "merge")
    assert done.returncode == 0, done.stdout + done.stderr
    conflicts = pulled.stdout.count("CONFLICT")
    print(f"without the driver: {conflicts} files in conflict; `lct merge`: {done.stdout.splitlines()[0]}")

    print(merge.install(ours))
    pulled = git(ours, "pull", "--no-rebase", "--no-edit", "origin", "theirs")
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    for name in ("dvc.yaml", "dvc.lock", *(f"lineage/{scale}.jsonl" for scale in declared)):
        assert (ours / name).read_bytes() == (plain / name).read_bytes(), f"{name}: git and `lct merge` differ"
    assert recorded_runs(ours) == {"run-0/s0", "run-0/s1", "run-0/s2", "run-0/s3", "run-2/s0", "run-3/s0", "run-4/s0"}
    assert registry.scales(ours) == ["one", "toy", "two"]
    print(f"with the driver: `git pull` joins {len(recorded_runs(ours))} trainings of three scales: the same files")

    fake.write_jobs(ours, every)
    assert restore.restore(ours, "toy", pull=True).absent == []
    assert due(ours) == PAGES, due(ours)
    extend(ours, "toy", every)
    assert due(ours) == set()
    push(ours, "main")
    print("`snakemake` makes the tables and the report of both; then nothing is planned")
    check_whole(folder, "fresh", declared)

    conflict(ours, theirs)


def conflict(ours: Path, theirs: Path) -> None:
    """Both record run 5, with other weights; a choice decides. Content moves from cache to cache."""
    git(theirs, "pull", "--no-rebase", "origin", "main")
    caches = [path.with_name(f"cache-{path.name}") for path in (ours, theirs)]
    shutil.copytree(*caches, dirs_exist_ok=True)
    merge.install(theirs)
    runs = ("0", "0/s1", "0/s2", "0/s3", "2", "3", "4", "5")
    for number, path in enumerate((ours, theirs)):
        jobs = graph_of(*runs)
        for job in jobs:
            if WEIGHTS in job["outputs"]:
                job["contents"] = {WEIGHTS: {"value": number, "of": "a GPU of its own"}}
        assert restore.restore(path, "toy").absent == []
        extend(path, "toy", jobs)
    pulled = git(ours, "pull", "--no-rebase", str(theirs), "HEAD")
    assert pulled.returncode != 0 and "`lct merge --ours PATH` or `--theirs PATH` decides" in pulled.stderr, (
        pulled.stderr
    )
    named = lct(ours, "merge")
    assert named.returncode == 1 and WEIGHTS in named.stdout, named.stdout + named.stderr
    assert lct(ours, "merge", "--theirs", "results/toy").returncode == 0
    assert git(ours, "commit", "-q", "-m", "merged").returncode == 0
    assert registry.read(ours, "toy")[WEIGHTS].sha256 == registry.read(theirs, "toy")[WEIGHTS].sha256
    shutil.copytree(*reversed(caches), dirs_exist_ok=True)
    assert restore.restore(ours, "toy").absent == []
    assert due(ours) == PAGES, due(ours)
    print(f"{WEIGHTS}: made twice with other content: named; `lct merge --theirs results/toy` takes theirs")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
