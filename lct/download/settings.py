"""Where files come from: a hub repository, web addresses, or a person's own download. Torch-free."""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import Discriminator, Field

from lct.checks import require, require_once

_SECRET = re.compile("token|secret|signature|password|credential|(^|[-_])(key|sig|auth)$", re.IGNORECASE)


def _require(condition: bool, where: str, expected: str, value: object, advice: str = "correct it in config/") -> None:
    require(condition, where, expected, f"{value!r}", advice)


def check_name(name: str, where: str) -> None:
    """Refuse names that would leave the download's folder, or that a shell or another system reads differently."""
    parts = PurePosixPath(name).parts
    safe = bool(name) and not name.startswith("/") and ".." not in parts and re.fullmatch(r"[\w.@+ /-]+", name)
    _require(bool(safe), where, "a relative path of letters, digits and . _ - + @ without `..`", name)


def web_address(url: str, where: str, advice: str = "correct it in config/") -> SplitResult:
    """The parts of an http(s) address. Raises ValueError where it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no end of an IPv6 address
        parts = urlsplit("")
    _require(parts.scheme in ("http", "https") and bool(parts.hostname), where, "http(s)://host/...", url, advice)
    return parts


def check_url(url: str, where: str) -> None:
    """Refuse addresses that are not http(s), and those that carry a password or token, which records would repeat."""
    parts = web_address(url, where)
    secret = parts.username is not None or any(_SECRET.search(key) for key, _ in parse_qsl(parts.query))
    _require(not secret, where, "no password or token in the address (~/.netrc may hold it)", parts.hostname)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file: where its bytes are, and what they must be."""

    path: str  # name under resources/{id}/files/
    url: str | None = None  # http or https; null: only a person can download it
    bytes: int | None = None  # size; null: recorded on first use, enforced afterwards
    sha256: str | None = None  # of the content; null: recorded on first use, enforced afterwards
    sha256_prefix: str | None = None  # its first digits, where only these are known (NAME-6726825d.pth)

    def __post_init__(self):
        check_name(self.path, "file.path")
        if self.url is not None:
            check_url(self.url, f"{self.path}: url")
        _require(self.bytes is None or self.bytes > 0, f"{self.path}: bytes", "a positive size or null", self.bytes)
        whole = self.sha256 is None or re.fullmatch("[0-9a-f]{64}", self.sha256)
        _require(bool(whole), f"{self.path}: sha256", "64 hexadecimal digits or null", self.sha256)
        prefix = self.sha256_prefix
        fits = prefix is None or (re.fullmatch("[0-9a-f]{6,64}", prefix) and (self.sha256 or prefix).startswith(prefix))
        _require(bool(fits), f"{self.path}: sha256_prefix", "6 or more first digits of the sha256, or null", prefix)


@dataclass(frozen=True, kw_only=True)
class HubOrigin:
    """Files of a Hugging Face repository at one commit; hashes are the hub's own, checked again here."""

    kind: Literal["hub"] = "hub"  # a hub repository
    repo: str  # owner/name
    repo_type: Literal["dataset", "model"] = "dataset"  # kind of repository
    revision: str  # commit: 40 hexadecimal digits, never a branch
    files: Annotated[tuple[str, ...], Field(min_length=1)]  # names or glob patterns inside the repository, in reading
    # order
    sha256: dict[str, str] = field(default_factory=dict)  # name -> hash, where known: for files the hub itself gives
    # no hash of

    def __post_init__(self):
        _require(bool(re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo)), "repo", "owner/name", self.repo)
        _require(bool(re.fullmatch("[0-9a-f]{40}", self.revision)), "revision", "a commit of 40 digits", self.revision)
        wrong = [name for name, digits in self.sha256.items() if not re.fullmatch("[0-9a-f]{64}", digits)]
        _require(not wrong, "sha256", "64 hexadecimal digits for every name", wrong)


@dataclass(frozen=True, kw_only=True)
class WebOrigin:
    """Files at web addresses."""

    kind: Literal["web"] = "web"  # plain http or https
    files: tuple[RemoteFile, ...]  # in reading order

    def __post_init__(self):
        _require(bool(self.files) and all(f.url for f in self.files), "files", "files with a url", self.files)
        require_once([file.path for file in self.files], "files", "path", "remove one")


@dataclass(frozen=True, kw_only=True)
class ManualOrigin:
    """Files that only a person can download: a licence to accept, a form to fill in."""

    kind: Literal["manual"] = "manual"  # the user's own download
    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1)]  # expected under resources/{id}/files/
    instructions: str  # what to do, where, in words

    def __post_init__(self):
        require_once([file.path for file in self.files], "files", "path", "remove one")


Origin = Annotated[HubOrigin | WebOrigin | ManualOrigin, Discriminator("kind")]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """config/weights/*.yaml: a published network's files."""

    title: str  # name shown to people
    licence: str  # under which the files may be used
    origins: Annotated[tuple[Origin, ...], Field(min_length=1)]  # tried in order
    note: str | None = None  # what a user should know


@dataclass(frozen=True, kw_only=True)
class Downloads:
    """config/config.yaml, downloads: this machine's way to the files. Never part of a result, so no job reruns."""

    mirror: str | None = None  # address laid out like resources/, asked before the declared ones; LCT_MIRROR
    cache: str | None = None  # folder laid out like resources/, looked up first and filled afterwards; LCT_CACHE
    offline: bool = False  # no connection at all: files in place, or in the cache; LCT_OFFLINE=1

    def __post_init__(self):
        if self.mirror is not None:
            web_address(self.mirror, "downloads.mirror")

    def environment(self) -> dict[str, str]:
        """The same as environment variables, which is how jobs learn of it."""
        given = {"LCT_MIRROR": self.mirror, "LCT_CACHE": self.cache, "LCT_OFFLINE": "1" if self.offline else None}
        return {name: value for name, value in given.items() if value is not None}
