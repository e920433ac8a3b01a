"""Claims and repeated runs, read and checked against the rows that they name. Torch-free."""

import math
from collections.abc import Sequence
from pathlib import Path

from lct.checks import require
from lct.config import yaml
from lct.config.claims import Claim, ClaimFile, Part, Repeat, Repeats
from lct.config.folder import ConfigFolder
from lct.config.published import PublishedRow, PublishedTable, TableSpec
from lct.config.schema import build, did_you_mean

FOLDER = Path("config/claims")
REPEATS = Path("config/evidence/repeats.yaml")


class PublishedRows:
    """Rows of every table that has published numbers, by TABLE.SUBTABLE.ROW."""

    def __init__(self, config: ConfigFolder):
        self._config = config
        self._tables: dict[str, PublishedTable] = {}

    def row(self, name: str, where: str) -> PublishedRow:
        """One row. ValueError naming `where` if the table, sub-table or row does not exist."""
        parts = name.split(".")
        require(len(parts) == 3, where, "a row as TABLE.SUBTABLE.ROW", repr(name), "fix it")
        table, subtable, row = parts
        rows = self.table(table, where).rows_of(subtable)
        if row not in rows:
            names = [f"{table}.{s.id}.{r.id}" for s in self.table(table, where).subtables for r in s.rows]
            hint = did_you_mean(name, names) or f"give one of config/tables/{table}.yaml"
            raise ValueError(f"{where}: expected a row of table {table}, found {name!r}; {hint}")
        return rows[row]

    def table(self, name: str, where: str) -> PublishedTable:
        """The published numbers that a table of config/tables/ is compared with."""
        if name not in self._tables:
            published = self._config.read(TableSpec, "tables", name, where).published
            where = f"config/tables/{name}.yaml: published"
            self._tables[name] = self._config.read(PublishedTable, "published", published, where)
        return self._tables[name]


def read_claims(config: ConfigFolder, rows: PublishedRows) -> list[Claim]:
    """Every claim of config/claims/, in the order of the files.

    Raises ValueError with one line on a damaged file, a row that does not exist, a metric that its table does not have,
    a part whose rows are of different datasets or protocols, or a published number that cannot be compared."""
    claims: dict[str, tuple[Claim, str]] = {}
    for name in config.names("claims"):
        source = str(FOLDER / f"{name}.yaml")
        for claim in config.read(ClaimFile, "claims", name, str(FOLDER)).claims:
            where = f"{source}: {claim.id}"
            if claim.id in claims:
                raise ValueError(
                    f"{where}: expected an id of its own, found it in {claims[claim.id][1]} too; rename one"
                )
            for part in claim.parts:
                _check(part, rows, where)
            claims[claim.id] = (claim, source)
    return [claim for claim, _ in claims.values()]


def _check(part: Part, rows: PublishedRows, where: str) -> None:
    metric, named = getattr(part, "metric", None), ", ".join(part.rows)
    for name in part.rows:
        fid = rows.row(name, where).fid
        require(fid is None or 0 < fid < math.inf, where, f"a number above 0 as FID of {name}", fid, "correct its row")
        metrics = [m.id for m in rows.table(name.split(".")[0], where).metrics]
        has_it = metric is None or metric in metrics
        require(has_it, where, f"a metric of {metrics}, which {name} has", repr(metric), "fix it")
    letters, expected = {name.split(".")[1] for name in part.rows}, "rows of one sub-table, that is of one dataset"
    require(len(letters) < 2, where, expected, named, "compare rows of the same letter")
    protocols = _protocols(part.rows, rows, where)
    expected, given = "published numbers of one protocol", f"{' and '.join(protocols)} in {named}"
    require(len(protocols) < 2, where, expected, given, "compare rows that were measured alike")


def _protocols(names: Sequence[str], rows: PublishedRows, where: str) -> list[str]:
    """How the rows that have published numbers were measured: protocol and number of images."""
    described = set()
    for name in names:
        (table, subtable, _), row = name.split("."), rows.row(name, where)
        if row.fid is not None or row.recall is not None:
            published = rows.table(table, where)
            of = {part.id: part.generated for part in published.subtables}
            described.add(f"{published.protocol} on {of[subtable] or published.generated} images")
    return sorted(described)


def read_repeats(config: ConfigFolder, rows: PublishedRows) -> tuple[Repeat, ...]:
    """Published runs that were trained alike. ValueError with one line on a row without a FID."""
    where = str(REPEATS)
    repeats = build(Repeats, yaml.load(config.root / where), where).repeats
    for name in (name for repeat in repeats for name in repeat.rows):
        if rows.row(name, where).fid is None:
            raise ValueError(f"{where}: expected rows with a published FID, found {name} without; take another")
    return repeats
