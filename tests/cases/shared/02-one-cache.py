"""Two checkouts of one repository with one DVC cache, and a copy of a project's folder: nothing is fetched or lost."""

import shutil
import sys
from pathlib import Path

from situation import PAGES, base, due, extend, git, graph_of, verified

from lct.lineage import merge, restore
from tests.helpers import fake_lineage as fake


def main(folder: Path) -> None:
    base(folder)
    project, second = folder / "base", folder / "second"
    merge.install(project)
    assert git(project, "worktree", "add", "-q", "-b", "second", str(second)).returncode == 0
    shutil.copy(project / ".dvc/config.local", second / ".dvc/config.local")  # one cache: dvc cache dir --local
    (project / ".dvc/config").write_text(
        (project / ".dvc/config").read_text().replace(str(folder / "store"), "nowhere")
    )
    fake.write_jobs(second, graph_of("0"))
    assert restore.restore(second, "toy").absent == [] and due(second) == set()
    print("a second checkout links what the first has recorded: nothing is fetched, nothing is planned")

    extend(project, "toy", graph_of("0", "1"))
    extend(second, "toy", graph_of("0", "2"))
    assert git(second, "merge", "-q", "--no-edit", "main").returncode == 0, "the driver serves every checkout"
    fake.write_jobs(second, graph_of("0", "1", "2"))
    assert restore.restore(second, "toy").absent == [] and due(second) == PAGES
    print("each has recorded a run of its own into the one cache; `git merge` and `lct restore` bring both, by links")

    copy = Path(shutil.copytree(project, folder / "copy", symlinks=True))
    (copy / ".dvc/config.local").write_text(f"[cache]\n    dir = {folder}/cache-copy\n")
    shutil.copytree(folder / "cache-base", folder / "cache-copy")
    named = [note for note in verified(copy).notes if "links into the cache of another project folder" in note]
    assert len(named) == 1 and verified(copy).faults == []
    assert restore.restore(copy, "toy").linked > 0 and due(copy) == set()
    shutil.rmtree(folder / "cache-base")
    left = verified(copy)
    assert left.faults == [] and not any("another project" in note for note in left.notes)
    print("a copy with a cache of its own: `lct verify` names links into the other one, `lct restore` sets them right")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
