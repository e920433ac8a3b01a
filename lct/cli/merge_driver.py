"""What git calls to merge a file of the recorded state: python -m lct.cli.merge_driver ANCESTOR OURS THEIRS PATH.

Writes the joined content over OURS. Exit code 1, with OURS as it was, where a user has to decide.
"""

import sys
from pathlib import Path

from lct.files.atomic import write_text
from lct.lineage.three_way import merge_texts


def main(words: list[str] | None = None) -> int:
    ancestor, ours, theirs, path = sys.argv[1:] if words is None else words
    try:
        texts = [Path(name).read_text(encoding="utf-8") for name in (ancestor, ours, theirs)]
        write_text(Path(ours), merge_texts(path, *texts))
    except (ValueError, OSError) as error:
        print(f"lct: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
