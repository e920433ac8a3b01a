"""Where files come from: a hub repository, web addresses, or a person's own download. Torch-free."""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal


def _require(condition: bool, where: str, expected: str, found: object) -> None:
    if not condition:
        raise ValueError(f"{where}: expected {expected}, found {found!r}; correct it in config/")


def check_name(name: str, where: str) -> None:
    """Refuse names that would leave the download's folder, or that a shell or another system reads differently."""
    parts = PurePosixPath(name).parts
    safe = bool(name) and not name.startswith("/") and ".." not in parts and re.fullmatch(r"[\w.@+ /-]+", name)
    _require(bool(safe), where, "a relative path of letters, digits and . _ - + @ without `..`", name)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file: where its bytes are, and what they must be."""

    path: str  # name under resources/{id}/files/
    url: str | None = None  # http or https; null: only a person can download it
    bytes: int | None = None  # size; null: recorded on first use, enforced afterwards
    sha256: str | None = None  # of the content; null: recorded on first use, enforced afterwards

    def __post_init__(self):
        check_name(self.path, "file.path")
        _require(self.url is None or self.url.startswith(("http://", "https://")), "url", "http(s)://...", self.url)
        _require(self.bytes is None or self.bytes > 0, f"{self.path}: bytes", "a positive size or null", self.bytes)
        known = self.sha256 is None or re.fullmatch("[0-9a-f]{64}", self.sha256)
        _require(bool(known), f"{self.path}: sha256", "64 hexadecimal digits or null", self.sha256)


@dataclass(frozen=True, kw_only=True)
class HubOrigin:
    """Files of a Hugging Face repository at one commit; hashes are the hub's own, checked again here."""

    kind: Literal["hub"] = "hub"  # a hub repository
    repo: str  # owner/name
    repo_type: Literal["dataset", "model"] = "dataset"  # kind of repository
    revision: str  # commit: 40 hexadecimal digits, never a branch
    files: tuple[str, ...]  # names or glob patterns inside the repository, in reading order
    sha256: dict[str, str] = field(default_factory=dict)  # name -> hash, where known

    def __post_init__(self):
        _require(bool(re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo)), "repo", "owner/name", self.repo)
        _require(bool(re.fullmatch("[0-9a-f]{40}", self.revision)), "revision", "a commit of 40 digits", self.revision)
        _require(bool(self.files), "files", "at least one name or pattern", self.files)


@dataclass(frozen=True, kw_only=True)
class WebOrigin:
    """Files at web addresses."""

    kind: Literal["web"] = "web"  # plain http or https
    files: tuple[RemoteFile, ...]  # in reading order

    def __post_init__(self):
        _require(bool(self.files) and all(f.url for f in self.files), "files", "files with a url", self.files)


@dataclass(frozen=True, kw_only=True)
class ManualOrigin:
    """Files that only a person can download: a licence to accept, a form to fill in."""

    kind: Literal["manual"] = "manual"  # the user's own download
    files: tuple[RemoteFile, ...]  # expected under resources/{id}/files/
    instructions: str  # what to do, where, in words

    def __post_init__(self):
        _require(bool(self.files), "files", "at least one file", self.files)


Origin = HubOrigin | WebOrigin | ManualOrigin


@dataclass(frozen=True, kw_only=True)
class Weights:
    """config/weights/*.yaml: a published network's files."""

    title: str  # name shown to people
    licence: str  # under which the files may be used
    origins: tuple[Origin, ...]  # tried in order
    note: str | None = None  # what a user should know

    def __post_init__(self):
        _require(bool(self.origins), "origins", "at least one", self.origins)
