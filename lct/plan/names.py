"""Cells of the tables, and the names that people type: rows, by the start of their name, and runs. An unknown one gets
the nearest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lct.checks import did_you_mean
from lct.plan.paths import METRICS


class SampleSet(NamedTuple):
    """One set of generated images: everything between a training seed and a metrics file."""

    run: str
    seed: int
    weights: str
    sampler: str
    draw: int


@dataclass(frozen=True)
class Cell:
    """(table, sub-table, row): one sampler of one run, measured over its training seeds and draws."""

    table: str
    subtable: str
    row: str
    run: str
    weights: str
    sampler: str
    sets: tuple[SampleSet, ...]

    @property
    def name(self) -> str:
        """Without a metric: all metrics of a row share their training."""
        return f"{self.table}.{self.subtable}.{self.row}"

    def id(self, metric: str) -> str:
        return f"{self.name}.{metric}"


def beginning_with(name: str, ids: Iterable[str]) -> list[str]:
    """Ids that a name means: its own; else those that begin with its parts (`table1.a`), or its letters."""
    ids = list(ids)
    if name in ids:
        return [name]
    return [i for i in ids if i.startswith(f"{name}.")] or [i for i in ids if name and i.startswith(name)]


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest of `names`, or the first few."""
    names = list(names)
    first = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return did_you_mean(name, names) or (f"names begin with {first}" if names else "there are none yet")


def cells_named(cells: Sequence[Cell], names: Iterable[str], scale: str) -> list[Cell]:
    """Rows of the tables, in their order, by name (a metric may follow), by the start of it, such as table1.a, or by
    their run; "all" is every row. Raises ValueError naming the nearest name."""
    rows = list(dict.fromkeys(cell.name for cell in cells))
    chosen: set[str] = set()
    for name in (name.strip() for name in names):
        row = name.rpartition(".")[0] if name.endswith(tuple(f".{metric}" for metric in METRICS)) else name
        of_run = [cell.name for cell in cells if cell.run == name]
        matching = rows if name == "all" else of_run or beginning_with(row, rows)
        if not matching:
            raise ValueError(
                f"expected a table, sub-table, row or run of scale {scale}, such as {rows[0]}, found {name!r}; "
                f"{nearest(row, target_names(cells))}"
            )
        chosen.update(matching)
    return [cell for cell in cells if cell.name in chosen]


def target_names(cells: Iterable[Cell]) -> list[str]:
    """Everything that `cells_named` takes, in the order of the tables: tables, sub-tables, rows, and then runs."""
    cells = list(cells)
    starts = {".".join(cell.name.split(".")[:n]): None for n in (1, 2, 3) for cell in cells}
    return [*starts, *dict.fromkeys(cell.run for cell in cells)]
