"""What DVC has written: dvc.lock, read as text, and its settings, as DVC itself reads them where it is installed."""

import configparser
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from lct.lineage.registry import conflict_line

_HEAD = "schema: '2.0'\nstages:\n"


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

_PARAMS = re.compile(r"^    params:\n(?:(?:      .*)?\n)*", re.MULTILINE)
_OUTS = re.compile(r"^    outs:\n((?:    [- ].*\n?)*)", re.MULTILINE)
_PATH = re.compile(r"^ +(?:- )?path:\s+(.+)$", re.MULTILINE)
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Stored:
    """A file in dvc.lock."""

    stage: str
    role: str  # "outs" or "deps"
    path: str
    md5: str
    bytes: int | None


class Lock:
    """dvc.lock as text, parsed one stage at a time, when it is needed: its params are most of it."""

    def __init__(self, text: str, where: str = "dvc.lock"):
        """ValueError names the line of a merge conflict, and anything that is not a dvc.lock of schema 2."""
        self.where = where
        if line := conflict_line(text):
            raise ValueError(
                f"{where}:{line}: expected DVC's record, found the mark of a merge conflict; `lct merge` joins both "
                "recordings"
            )
        head, _, body = text.partition("\nstages:\n")
        if text and not (head.startswith("schema:") and "2.0" in head):
            raise ValueError(
                f"{where}:1: expected `schema: '2.0'`, found {head.splitlines()[0]!r}; git checkout {where}"
            )
        blocks = re.split(r"^(?=  \S)", body, flags=re.MULTILINE)
        self.blocks = {_stage_name(block): block for block in blocks if block.startswith("  ")}
        self._files: dict[str, list[Stored]] = {}

    @cached_property
    def _makers(self) -> dict[str, str]:
        """Output -> the stage that makes it; searched in the text, since reading YAML takes far longer."""
        return {
            path.strip("'\""): name
            for name, block in self.blocks.items()
            for outs in _OUTS.findall(block)
            for path in _PATH.findall(outs)
        }

    def maker(self, path: str) -> list[Stored]:
        """Every file of the stage that makes `path`: what it wrote and what it read; empty when no stage does."""
        return self.files(self._makers[path]) if path in self._makers else []

    def all(self) -> list[Stored]:
        return [stored for name in self.blocks for stored in self.files(name)]

    def outs(self) -> dict[str, str]:
        """Path -> MD5 of every output."""
        return {stored.path: stored.md5 for stored in self.all() if stored.role == "outs"}

    def files(self, stage: str) -> list[Stored]:
        """What a stage wrote and read. Raises ValueError naming the stage on damage."""
        if stage not in self._files:
            values = self._parsed(stage, _PARAMS.sub("", self.blocks[stage]))
            try:
                self._files[stage] = [
                    _stored(stage, role, item) for role in ("outs", "deps") for item in values.get(role, ())
                ]
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self._damage(stage, error) from error
        return self._files[stage]

    def params(self, stage: str) -> dict[str, Any]:
        """Params file -> the values that a stage was recorded with."""
        return self._parsed(stage, self.blocks[stage]).get("params", {})

    def _parsed(self, stage: str, block: str) -> dict[str, Any]:
        try:
            (values,) = yaml.load(block, Loader=_Loader).values()  # noqa: S506 a SafeLoader
        except (yaml.YAMLError, AttributeError, ValueError) as error:
            raise self._damage(stage, error) from error
        return values

    def _damage(self, stage: str, error: Exception) -> ValueError:
        text = f"expected DVC's record, found damage ({' '.join(str(error).split())}); git checkout {self.where}"
        return ValueError(f"{self.where}: stage {stage}: {text}")


def _stage_name(block: str) -> str:
    return block.partition("\n")[0].strip().removesuffix(":").strip("'\"")


def _stored(stage: str, role: str, values: dict[str, Any]) -> Stored:
    md5 = str(values["md5"])
    if not _MD5.match(md5):
        raise ValueError(f"md5 {md5!r}")
    return Stored(stage, role, str(values["path"]), md5, values.get("size"))


def lock_path(root: Path) -> Path:
    return root / "dvc.lock"


def lock_text(blocks: dict[str, str]) -> str:
    """A dvc.lock of these blocks, sorted: the same recorded state has the same bytes, whatever came first."""
    return _HEAD + "".join(blocks[name] for name in sorted(blocks))


def read_lock(root: Path) -> Lock | None:
    """dvc.lock, or None before the first recording."""
    path = lock_path(root)
    return Lock(path.read_text(encoding="utf-8")) if path.exists() else None


def settings(root: Path) -> dict[str, dict[str, Any]]:
    """DVC's settings, by section: as DVC itself reads them where it is installed, those of the user and of the machine
    included; else .dvc/config with config.local over it. Relative folders are relative to .dvc."""
    files = tuple(root / ".dvc" / name for name in ("config", "config.local"))
    times = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
    variables = ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR")
    return _read_config(files, times, tuple(os.environ.get(name) for name in variables))


@lru_cache(maxsize=64)
def _read_config(files: tuple[Path, ...], _times: tuple[int, ...], _places: tuple[str | None, ...]) -> dict[str, dict]:
    try:
        from dvc.config import Config, ConfigError
    except ImportError:
        return _read_files(files)
    if not files[0].exists():
        return _read_files(files)
    try:
        config = Config(str(files[0].parent))
    except ConfigError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{files[0]}: expected DVC's settings, found damage ({text}); fix it") from error
    remotes = {f'remote "{name}"': dict(values) for name, values in config.get("remote", {}).items()}
    return {"cache": dict(config.get("cache", {})), **remotes}


def _read_files(files: tuple[Path, ...]) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    for path in files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except configparser.Error as error:
            raise ValueError(f"{path}: expected DVC's settings, found damage ({error.message}); fix it") from error
        for section in parser.sections():
            sections.setdefault(section.strip("'"), {}).update(parser[section])
    return sections


def cache_folder(root: Path) -> Path:
    """The folder of DVC's cache."""
    return (root / ".dvc" / str(settings(root).get("cache", {}).get("dir", "cache"))).resolve()


def remotes(root: Path) -> dict[str, str]:
    """Name -> URL of each remote; a local folder as an absolute path."""
    urls = {}
    for section, values in settings(root).items():
        name = re.fullmatch(r'remote "(.+)"', section)
        if name and "url" in values:
            url = str(values["url"]).removeprefix("file://")
            urls[name.group(1)] = url if "://" in url else str((root / ".dvc" / url).resolve())
    return urls


def stored_object(folder: Path, md5: str) -> Path:
    """Where a cache or a remote keeps an object."""
    return folder / "files" / "md5" / md5[:2] / md5[2:]


def cached(root: Path, md5: str) -> Path:
    """The file in the cache that holds the content with this MD5."""
    return stored_object(cache_folder(root), md5)
