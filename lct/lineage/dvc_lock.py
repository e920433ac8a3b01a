"""What DVC says it stores, read from its own plain files (dvc.lock, .dvc/config): no dvc needed."""

import configparser
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

CONFLICT_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML 1.2, as DVC writes it: `no` is a word and 1e-08 a number, which YAML 1.1 has the other way round."""

    yaml_implicit_resolvers: dict = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))

_OUTS = re.compile(r"^    outs:\n((?:    [- ].*\n?)*)", re.MULTILINE)
_PATH = re.compile(r"^ +(?:- )?path: (.+)$", re.MULTILINE)
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Stored:
    """A file in dvc.lock."""

    stage: str
    role: str  # "outs" or "deps"
    path: str
    md5: str
    bytes: int | None
    params: dict[str, Any]  # params file -> the values that the stage was recorded with


class Lock:
    """dvc.lock, parsed one stage at a time, where it is asked for."""

    def __init__(self, text: str, where: str = "dvc.lock"):
        """ValueError names the line of a merge conflict, and anything that is not a dvc.lock of schema 2."""
        self.where = where
        for number, line in enumerate(text.splitlines(), start=1):
            if line.startswith(CONFLICT_MARKS):
                raise ValueError(
                    f"{where}:{number}: expected DVC's record, found the mark of a merge conflict; take either side "
                    f"(git checkout --ours dvc.lock config/recorded.yaml lineage), then `lct record`"
                )
        head, _, body = text.partition("\nstages:\n")
        if text and not (head.startswith("schema:") and "2.0" in head):
            raise ValueError(
                f"{where}:1: expected `schema: '2.0'`, found {head.splitlines()[0]!r}; git checkout {where}"
            )
        blocks = re.split(r"^  (?=\S)", body, flags=re.MULTILINE)[1:]
        self._blocks = blocks
        self._parsed: dict[int, list[Stored]] = {}

    @cached_property
    def _makers(self) -> dict[str, list[int]]:
        """Output -> the stages that make it; found in the text, since reading YAML takes far longer."""
        makers: dict[str, list[int]] = {}
        for i, block in enumerate(self._blocks):
            for outs in _OUTS.findall(block):
                for path in _PATH.findall(outs):
                    makers.setdefault(path.strip("'\""), []).append(i)
        return makers

    def maker(self, path: str) -> list[Stored]:
        """Every file of the stage that makes `path`: what it wrote and what it read; empty when no stage does."""
        return [stored for i in self._makers.get(path, ()) for stored in self._block(i)]

    def all(self) -> list[Stored]:
        return [stored for i in range(len(self._blocks)) for stored in self._block(i)]

    def _block(self, i: int) -> list[Stored]:
        if i not in self._parsed:
            block = self._blocks[i]
            try:
                ((stage, values),) = yaml.load(block, Loader=_Loader).items()  # noqa: S506 a SafeLoader
                self._parsed[i] = [
                    _stored(stage, role, one, values.get("params", {}))
                    for role in ("outs", "deps")
                    for one in values.get(role, ())
                ]
            except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
                name = block.partition("\n")[0].rstrip(":")
                raise ValueError(
                    f"{self.where}: stage {name}: expected DVC's record, found damage "
                    f"({' '.join(str(error).split())}); git checkout {self.where}"
                ) from error
        return self._parsed[i]


def _stored(stage: str, role: str, values: dict[str, Any], params: dict[str, Any]) -> Stored:
    md5 = str(values["md5"])
    if not _MD5.match(md5):
        raise ValueError(f"md5 {md5!r}")
    return Stored(stage, role, str(values["path"]), md5, values.get("size"), params)


def read_lock(root: Path) -> Lock | None:
    """dvc.lock, or None before the first recording."""
    path = root / "dvc.lock"
    return Lock(path.read_text(encoding="utf-8")) if path.exists() else None


def _config(root: Path) -> dict[str, dict[str, str]]:
    """.dvc/config, with config.local over it: section -> key -> value."""
    found: dict[str, dict[str, str]] = {}
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(root / ".dvc" / name, encoding="utf-8")
        except configparser.Error as error:
            raise ValueError(f".dvc/{name}: expected DVC's settings, found damage ({error.message}); fix it") from error
        for section in parser.sections():
            found.setdefault(section.strip("'"), {}).update(parser[section])
    return found


def cache_folder(root: Path) -> Path:
    """The folder of DVC's cache."""
    return (root / ".dvc" / _config(root).get("cache", {}).get("dir", "cache")).resolve()


def remotes(root: Path) -> dict[str, str]:
    """Name -> URL of each remote; a local folder as an absolute path."""
    found = {}
    for section, values in _config(root).items():
        name = re.fullmatch(r'remote "(.+)"', section)
        if name and "url" in values:
            url = values["url"].removeprefix("file://")
            found[name.group(1)] = url if "://" in url else str((root / ".dvc" / url).resolve())
    return found


def stored_object(folder: Path, md5: str) -> Path:
    """Where a cache or a remote keeps an object."""
    return folder / "files" / "md5" / md5[:2] / md5[2:]
