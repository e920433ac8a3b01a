"""JSON schemas of the YAML files in config/, written from the settings dataclasses.

python workflow/schemas/render.py            # writes workflow/schemas/*.schema.json, as `make schemas` does
python workflow/schemas/render.py --check    # fails if one of them is not up to date, or a key has no description
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lct.config.claims import ClaimFile, Evidence, Repeats
from lct.config.devices import Device
from lct.config.model import Dataset, Figure, Main, Method, RunEntry, Scale
from lct.config.published import PublishedTable, TableSpec
from lct.config.schema import schema
from lct.download.settings import Weights
from lct.metrics.settings import PretrainedExtractor

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
SCHEMAS = {  # name -> (the files that it describes, what they hold)
    "config": ("config/config.yaml", Main),
    "scale": ("config/scales/*.yaml", Scale),
    "dataset": ("config/datasets/*.yaml", Dataset),
    "extractor": ("config/extractors/*.yaml", PretrainedExtractor),
    "method": ("config/methods/*.yaml", Method),
    "run": ("config/runs/*.yaml", dict[str, RunEntry]),
    "table": ("config/tables/*.yaml", TableSpec),
    "published": ("config/published/*.yaml", PublishedTable),
    "weights": ("config/weights/*.yaml", Weights),
    "figure": ("config/figures/*.yaml", Figure),
    "device": ("config/devices/*.yaml", Device),
    "evidence": ("config/evidence/facts.yaml", Evidence),
    "repeats": ("config/evidence/repeats.yaml", Repeats),
    "claims": ("config/claims/*.yaml", ClaimFile),
}


def header(path: str, name: str) -> str:
    """First line of a YAML file, by which editors find its schema."""
    up = "../" * path.count("/")
    return f"# yaml-language-server: $schema={up}workflow/schemas/{name}.schema.json"


def undescribed(value: Any, place: str = "") -> Iterator[str]:
    """Keys of a schema's settings that have no description, each with its place."""
    if isinstance(value, list):
        for item in value:
            yield from undescribed(item, place)
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key == "properties":
                yield from (f"{place}.{k}" for k, v in entry.items() if k != "kind" and "description" not in v)
            yield from undescribed(entry, f"{place}.{key}" if key not in ("properties", "$defs") else place)


def faults(folder: Path) -> list[str]:
    """One line for each schema in `folder` that is out of date, each key without a description, and each YAML file that
    does not name its schema."""
    lines = []
    for name, (pattern, settings) in SCHEMAS.items():
        path, expected = folder / f"{name}.schema.json", schema(settings)
        if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != expected:
            lines.append(f"{path.name}: expected the schema of {settings}, found another; run `make schemas`")
        lines += [f"{key}: expected a description, found none; add a comment" for key in undescribed(expected, name)]
        for file in sorted(ROOT.glob(pattern)):
            line = header(str(file.relative_to(ROOT)), name)
            if file.read_text(encoding="utf-8").partition("\n")[0] != line:
                lines.append(f"{file.relative_to(ROOT)}:1: expected `{line}`, found another line; put it first")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a schema is out of date")
    if parser.parse_args().check:
        lines = faults(FOLDER)
        print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
        return int(bool(lines))
    for name, (_, settings) in SCHEMAS.items():
        text = json.dumps(schema(settings), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.schema.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
