"""What config/evidence/facts.yaml holds: what is known about the paper's runs, and where sources contradict."""

from dataclasses import dataclass
from typing import Literal

from lct.checks import require
from lct.config.published import check_unique

Certainty = Literal["print", "script", "log", "computed", "measured", "inferred", "not known"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something known, or known to be unknown, about the paper's runs."""

    topic: str  # heading it stands under
    text: str  # in our own words
    certainty: Certainty  # what it rests on
    provenance: str  # where
    key: str | None = None  # setting of the final CelebA-HQ run (celebahq-lct) that it is about
    dataset_key: str | None = None  # setting of the dataset CelebA-HQ, likewise
    value: str | float | int | bool | None = (
        None  # what that setting is here; a test compares it with the configuration
    )
    settled_by: tuple[str, ...] = ()  # rows of config/tables/, as TABLE.SUBTABLE.ROW, whose runs test it

    def __post_init__(self):
        if (self.key is not None or self.dataset_key is not None) != (self.value is not None):
            raise ValueError(f"fact {self.text!r}: expected a value with a key, and none without; add or remove one")


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Sources that contradict each other, or themselves: a pitfall for a reproduction."""

    id: str  # P1, P2, ...
    title: str  # in a few words
    text: str  # in our own words
    provenance: str  # where
    settled_by: tuple[str, ...] = ()  # rows of config/tables/, as TABLE.SUBTABLE.ROW, whose runs settle it
    settles: str | None = None  # how they do
    resolved: str | None = None  # what this project does, where no run is needed

    def __post_init__(self):
        settled = bool(self.settled_by) == (self.settles is not None) and (self.settles or self.resolved)
        require(settled, f"conflict {self.id}", "settled_by with settles, or resolved", "neither", "add it")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """config/evidence/facts.yaml: what is known about the paper's runs, and what contradicts what."""

    facts: tuple[Fact, ...]  # by topic, in the order of the page
    conflicts: tuple[Conflict, ...]  # pitfalls, in the order of their numbers

    def __post_init__(self):
        check_unique(tuple(conflict.id for conflict in self.conflicts), "config/evidence/facts.yaml: conflicts")
