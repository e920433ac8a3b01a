"""Preparation, storage and checking of images, on images like photographs made here: part of `make bench`.

Prints images per second and core from 1024x1024 and 256x256 JPEG (one thread, by CPU time), size and time of lossless
encodings, random reads from a stored zip, an LMDB and a folder, peak memory of the images job, and the time to check a
finished set. Needs about 3 GB in the temporary folder for a minute or two.
"""

import argparse
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
from PIL import Image
from sklearn.datasets import load_sample_image

from lct.data import imageset
from lct.data.decode import decode
from lct.files.atomic import write_json

SIDE = 256


def photographs(side: int, count: int) -> list[Image.Image]:
    """Crops of scikit-learn's two photographs, enlarged, with the noise of a camera: as hard to encode as real ones."""
    draws = np.random.default_rng(0)
    whole = [Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")]
    made = []
    for i in range(count):
        left, size = int(draws.integers(0, 200)), int(draws.integers(300, 427))
        crop = whole[i % 2].crop((left, 0, left + size, size)).resize((side, side), Image.Resampling.LANCZOS)
        noise = draws.normal(0, 3, (side, side, 3))
        made.append(Image.fromarray((np.asarray(crop) + noise).clip(0, 255).astype(np.uint8)))
    return made


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rate(work: Callable[[int], object], count: int) -> float:
    """Calls per second of one core."""
    work(0)
    started = time.process_time()
    for i in range(count):
        work(i)
    return count / (time.process_time() - started)


def preparation() -> None:
    for side in (1024, SIDE):
        files = [encoded(image, "JPEG", quality=92) for image in photographs(side, 16)]

        def prepare(i: int, files=files) -> None:
            imageset.encode(decode(lambda: files[i % len(files)], "x", SIDE))

        print(f"preparation from {side}x{side} JPEG to {SIDE}x{SIDE}: {rate(prepare, 192):.0f} images/s per core")


def encodings() -> None:
    images = photographs(SIDE, 16)
    rows = []
    options = [(f"PNG, level {level}", "PNG", {"compress_level": level}) for level in (0, 1, 3, 6, 9)]
    options.append(("PNG, run lengths", "PNG", {"compress_level": 1, "compress_type": 3}))
    options += [(f"WebP, method {m}", "WEBP", {"lossless": True, "quality": 0, "method": m}) for m in (0, 1, 4)]
    for name, kind, how in options:
        files = [encoded(image, kind, **how) for image in images]
        write = rate(lambda i, kind=kind, how=how: encoded(images[i % 16], kind, **how), 32)
        read = rate(lambda i, files=files: np.array(Image.open(io.BytesIO(files[i % 16]))), 96)
        rows.append((name, sum(map(len, files)) / 16e3, 1e3 / write, 1e3 / read))
    print(pandas.DataFrame(rows, columns=["lossless", "kB", "write ms", "read ms"]).round(2).to_string(index=False))


def forget(*paths: Path) -> None:
    """Drop files from the operating system's cache."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def reading(folder: Path, pictures: list[imageset.EncodedImage], count: int) -> None:
    cycle = [pictures[i % len(pictures)] for i in range(count)]
    items = [{"source": f"{i:040x}", "label": None} for i in range(count)]
    write_json(folder / "set.manifest.json", imageset.write_imageset(folder / "set.zip", cycle, items=items))
    (folder / "files").mkdir()
    for i, picture in enumerate(cycle):
        (folder / f"files/{i:06d}.webp").write_bytes(picture.content)
    with lmdb.open(str(folder / "lmdb"), map_size=2**38) as database, database.begin(write=True) as edit:
        for i, picture in enumerate(cycle):
            edit.put(f"{i:06d}".encode(), picture.content)
    images = imageset.ImageSet(folder / "set.zip")

    def from_lmdb(readahead: bool) -> Callable[[int], bytes]:
        path = shutil.copytree(folder / "lmdb", folder / f"lmdb-{readahead}")
        database = lmdb.open(str(path), readonly=True, lock=False, readahead=readahead)

        def read(i: int) -> bytes:
            with database.begin() as view:
                return view.get(f"{i:06d}".encode())

        return read

    ways = {
        "zip, stored (ours)": (images.read, [folder / "set.zip"]),
        "LMDB": (from_lmdb(False), [folder / "lmdb-False/data.mdb"]),
        "LMDB, read ahead": (from_lmdb(True), [folder / "lmdb-True/data.mdb"]),
        "folder": (lambda i: (folder / f"files/{i:06d}.webp").read_bytes(), sorted((folder / "files").iterdir())),
    }
    order = np.random.default_rng(1).permutation(count).tolist()
    rows = []
    for name, (read, files) in ways.items():
        forget(*files)
        started = time.perf_counter()
        for i in order[: count // 5]:
            read(i)
        cold = count // 5 / (time.perf_counter() - started)
        for i in order:
            read(i)
        cached = rate(lambda i, read=read: read(order[i]), count)
        rows.append((name, cold, 1e6 / cached, sum(path.stat().st_size for path in files) / 1e6))
    columns = ["random reads", "from disk /s", "from cache, CPU us each", "MB"]
    print(pandas.DataFrame(rows, columns=columns).round(0).to_string(index=False))
    decoded = 1e6 / rate(lambda i: images[order[i]], 500)
    print(f"reading and decoding one image of the set: {decoded:.0f} CPU us")
    for what, deep in (("its size and count", False), ("its hash too", True)):
        started = time.perf_counter()
        imageset.open_checked(folder / "set.manifest.json", deep=deep)
        print(f"checking {count} finished images by {what}: {time.perf_counter() - started:.2f} s")
    large = imageset.read_manifest(folder / "set.manifest.json")
    large["items"] = [{"source": f"{i:040x}", "label": None} for i in range(240_000)]
    write_json(folder / "large.json", large)
    started = time.perf_counter()
    imageset.read_manifest(folder / "large.json")
    print(f"reading a manifest of 240000 images: {time.perf_counter() - started:.2f} s")


def memory(folder: Path, count: int) -> None:
    """The images job on parquet, the hardest container to stream, in row groups as on the hub and ten times larger."""
    files = [encoded(image, "JPEG", quality=92) for image in photographs(1024, 8)]
    table = pyarrow.table({"image": [files[i % 8] for i in range(count)]})
    # The kernel counts a parent's memory in a child's ru_maxrss; VmHWM is the process's own.
    program = "from lct.jobs.images import main; print(seen()); main(); print(seen())"
    program = "seen = lambda: next(x for x in open('/proc/self/status') if x.startswith('VmHWM')); " + program
    for rows, split in ((100, "ordered"), (100, "seeded"), (1000, "ordered")):
        path, out = folder / f"{rows}.parquet", folder / f"{rows}-{split}"
        pyarrow.parquet.write_table(table, path, row_group_size=rows, compression="none", use_dictionary=False)
        source = {"kind": "parquet", "path": str(path), "split": split}
        settings = {"recipe": 1, "dataset": {"source": source, "resolution": SIDE, "train": count, "heldout": 0}}
        command = [sys.executable, "-c", program, "--settings", json.dumps(settings), "--workers", "2"]
        command += ["--train", str(out / "train.zip"), "--heldout", str(out / "heldout.zip")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        start, peak = (int(line.split()[1]) / 1e3 for line in done.stdout.splitlines() if line.startswith("VmHWM"))
        seconds = json.loads((out / "train.zip.run.json").read_text())["seconds"]
        print(
            f"images job, {split}, {count} images of 1024x1024, {rows} in a row group, 2 threads: {seconds:.1f} s, "
            f"peak {peak:.0f} MB, {start:.0f} MB of it Python's imports"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="images in the sets that are read")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    folder = Path(tempfile.mkdtemp(prefix="lct-bench-"))
    try:
        preparation()
        encodings()
        reading(folder, [imageset.encode(np.asarray(image)) for image in photographs(SIDE, 64)], arguments.count)
        memory(folder, min(1000, arguments.count))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
