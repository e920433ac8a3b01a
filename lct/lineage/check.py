"""Do outputs agree with the records beside them?"""

from pathlib import Path

from lct.files.records import mismatch


def check_outputs(folder: Path, deep: bool) -> tuple[int, list[str]]:
    """Check every output with a run record under `folder`: how many, and one line per fault. `deep` hashes contents."""
    records = sorted(folder.rglob("*.run.json"))
    faults = [mismatch(Path(str(record).removesuffix(".run.json")), deep=deep) for record in records]
    return len(records), [fault for fault in faults if fault is not None]
