"""The one place that knows DVC: dvc.lock, read as text; its settings, as DVC itself reads them where it is installed;
and the program, called as `python -m dvc`, never imported."""

import configparser
import contextlib
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from lct.checks import invalid, require
from lct.files.git import checkout_fault, run_git
from lct.lineage.registry import conflict_line

VERSIONS = "3."  # the file formats read here are those of this major version
LOCK_SECONDS = 30.0  # how long another dvc in this project is waited for
FOLDERS = ("results", "reports", "resources")  # whose files are recorded
WRITTEN = ("dvc.yaml", "dvc.lock", "lineage/smoke.jsonl")  # by a recording
_STATE = ("dvc.yaml", "dvc.lock", ".dvc/config", ".dvc/config.local")  # that another folder needs to fetch content
_LINES = 6  # of what DVC says when it fails
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
_PARAMS_FILE = re.compile(r"^      \S", re.MULTILINE)
_SETTINGS = re.compile(r"^        settings:\n((?:(?:          .*)?\n)+)", re.MULTILINE)
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
        line, advice = conflict_line(text), "`lct merge` joins both recordings"
        require(line is None, f"{where}:{line}", "DVC's record", "the mark of a merge conflict", advice)
        head, _, body = text.partition("\nstages:\n")
        is_lock, first = not text or (head.startswith("schema:") and "2.0" in head), head.partition("\n")[0]
        require(is_lock, f"{where}:1", "`schema: '2.0'`", repr(first), f"git checkout {where}")
        blocks = re.split(r"^(?=  \S)", body, flags=re.MULTILINE)
        names = [block.partition("\n")[0].strip().removesuffix(":").strip("'\"") for block in blocks]
        self.blocks = {name: block for name, block in zip(names, blocks, strict=True) if block.startswith("  ")}
        self._files: dict[str, list[Stored]] = {}
        self._shared: dict[str, dict[str, Any]] = {}  # text -> settings

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
        text = _PARAMS.search(self.blocks[stage])
        if text is None:
            return {}
        settings = _SETTINGS.findall(text[0])
        if len(settings) == len(_PARAMS_FILE.findall(text[0])) == 1:
            with contextlib.suppress(AttributeError, TypeError, ValueError):  # what makes sense as a whole alone
                ((name, values),) = self._parsed(stage, _SETTINGS.sub("", text[0])).items()
                return {name: {**values, "settings": self._settings(stage, settings[0])}}
        return self._parsed(stage, text[0])

    def _settings(self, stage: str, text: str) -> dict[str, Any]:
        """Settings of params, read once for all stages that share them."""
        if text not in self._shared:
            self._shared[text] = self._parsed(stage, f"settings:\n{text}")
        return self._shared[text]

    def _parsed(self, stage: str, block: str) -> dict[str, Any]:
        try:
            (values,) = yaml.load(block, Loader=_Loader).values()  # noqa: S506 a SafeLoader
        except (yaml.YAMLError, AttributeError, ValueError) as error:
            raise self._damage(stage, error) from error
        return values

    def _damage(self, stage: str, error: Exception) -> ValueError:
        text = f"expected DVC's record, found damage ({' '.join(str(error).split())}); git checkout {self.where}"
        return ValueError(f"{self.where}: stage {stage}: {text}")


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
    if not files[0].exists():
        return _read_files(files)
    try:
        from dvc.config import Config, ConfigError
    except ImportError:  # not installed, or an installation that lacks a package
        return _read_files(files)
    try:
        config = Config(str(files[0].parent))
    except ConfigError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{_damaged(files)}: expected DVC's settings, found damage ({text}); fix it") from error
    remotes = {f'remote "{name}"': dict(values) for name, values in config.get("remote", {}).items()}
    return {"cache": dict(config.get("cache", {})), **remotes}


def _damaged(files: tuple[Path, ...]) -> Path:
    """The file of DVC's settings that it cannot read: of the project, the user or the machine."""
    from dvc.config import Config, ConfigError

    for path in (*files, *(Path(Config.get_dir(level), "config") for level in Config.SYSTEM_LEVELS)):
        try:
            Config.load_file(str(path))
        except ConfigError:
            return path
        except OSError:
            continue
    return files[0]


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


def version() -> str | None:
    """DVC's version; None when it is not installed."""
    try:
        return importlib.metadata.version("dvc")
    except importlib.metadata.PackageNotFoundError:
        return None


def check(root: Path) -> None:
    """Raise ValueError with one line when DVC cannot record here."""
    installed = version() or "none"
    require(installed.startswith(VERSIONS), "dvc", "version 3", installed, "`make install` installs the locked one")
    require((root / ".dvc" / "config").exists(), root, "a DVC project", "no .dvc/config", "`git checkout -- .dvc`")
    if fault := checkout_fault(root):
        raise ValueError(fault)


def check_place(root: Path) -> None:
    """Raise ValueError with one line when DVC and git would refuse what a run makes in this folder."""
    check(root)
    for name in FOLDERS:
        folder = root / name
        place = os.path.realpath(folder)
        target, given = shlex.quote(place), f"a link to {place}, and DVC records nothing behind a link"
        keep = f"`rm {name} && mv {target} {name} && dvc cache dir --local {target}-cache`"
        require(not folder.is_symlink(), folder, "a folder", given, f"to keep the content alone there: {keep}")
    for path in run_git(root, "check-ignore", *WRITTEN).stdout.split():
        rule = run_git(root, "check-ignore", "--verbose", path).stdout.partition("\t")[0]
        advice = f"`echo '!{path}' >> .gitignore` takes it out"
        raise invalid(path, "a file that git keeps", f"one that git ignores ({rule})", advice)
    types = settings(root).get("cache", {}).get("type", [])
    types = [kind.strip() for kind in types.split(",")] if isinstance(types, str) else list(types)
    takes_links, advice = types != ["symlink"] or _links(root), "`dvc config --local cache.type copy`"
    advice += " records with copies, which take the space twice"
    require(takes_links, root, "a file system with symbolic links", "none", advice)


def place_fault(root: Path) -> str | None:
    """Why a run in this folder could not be recorded, in one line with what to do; None when it can be."""
    try:
        check_place(root)
    except ValueError as error:
        return " ".join(str(error).split())
    return None


def _links(root: Path) -> bool:
    """Whether the project's file system takes symbolic links."""
    trial = root / ".dvc" / f".lct-link-{os.getpid()}"
    try:
        os.symlink("nowhere", trial)
    except OSError:
        return False
    trial.unlink()
    return True


def run(root: Path, *words: str) -> str:
    """Call `dvc` in `root`; raises ValueError with DVC's own last lines when it fails."""
    started = time.monotonic()
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, check=False
        )
        busy = done.returncode != 0 and "Unable to acquire lock" in done.stderr
        if not busy or time.monotonic() - started > LOCK_SECONDS:
            break
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ValueError(f"dvc {words[0]}: {explain(' '.join(lines[-_LINES:]))}")
    return done.stdout


def explain(message: str) -> str:
    """DVC's message, with what to do about it."""
    hints = {
        r"Unable to acquire lock|locked": "another dvc is running in this project; wait for it, then try again",
        r"No space left|Disk quota": "the disk is full: free space, then try again; what was recorded is untouched",
        r"File too large": "a limit on file sizes was met; what was recorded is untouched",
        r"Checkout failed|missing cache|do not exist neither|not in cache": "the content is neither in the cache nor "
        "in a remote: snakemake makes it again",
        r"cache link types": "this file system takes no such links: `dvc config --local cache.type copy` records with "
        "copies",
        r"git-ignored": "`git check-ignore -v dvc.lock dvc.yaml` names the rule; `!dvc.lock` in .gitignore undoes it",
        r"conflict|could not be read|corrupted": "repair that file (git checkout -- dvc.lock), then try again",
    }
    message = " ".join(message.split())
    for pattern, hint in hints.items():
        if re.search(pattern, message):
            return f"{message}; {hint}"
    return message


def commit(root: Path) -> None:
    """One `dvc commit` of every stage in dvc.yaml: content into the cache, hashes into dvc.lock.

    Naming stages instead would be one commit each: DVC reads and writes everything again for every name.
    """
    run(root, "--quiet", "commit", "--force")


def pull(root: Path, paths: list[str]) -> None:
    """Fetch content from the default remote into the cache and link it; of everything, or of these files."""
    if not run(root, "config", "core.remote").strip():  # `dvc pull` would end well, and leave links to nothing
        raise ValueError(f"{root}: expected a remote to pull from, found none; `dvc remote add -d NAME WHERE`")
    run(root, "--quiet", "pull", *paths)


def fetch(root: Path, remote: str, folder: Path) -> str | None:
    """Fetch every recorded object of a remote into `folder`/cache; why it could not be done, or None.

    A copy of DVC's own files, without git, does: the project and its cache are left as they are."""
    for part in _STATE:
        if (root / part).exists():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / part, folder / part)
    (folder / "tmp").mkdir()
    try:
        run(folder, "config", "--local", "core.no_scm", "true")
        run(folder, "config", "--local", "cache.dir", str(folder / "cache"))
        run(folder, "fetch", "--quiet", "--remote", remote)
    except ValueError as error:
        return f"not all of it was brought: {error}"
    return None
