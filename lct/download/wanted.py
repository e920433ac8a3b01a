"""From an origin to the list of its files: what a hub repository holds at its commit, or what the settings declare."""

import fnmatch
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import huggingface_hub
import requests
from huggingface_hub.errors import HTTPError

from lct.download.settings import HubOrigin, Origin, RemoteFile, check_name
from lct.download.transfer import RETRIED, Failed, Policy, public
from lct.files.atomic import read_json, write_json
from lct.files.hashing import sha256_json

log = logging.getLogger(__name__)

HUB = "https://huggingface.co"
_YES = {"1", "on", "yes", "true"}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file to get: what it must be, and where it may be had."""

    path: str  # name under resources/{id}/files/
    url: str | None  # its public address, which records name
    address: str | None  # the address to ask, where that is another: a mirror of the hub; None: a person's download
    bytes: int | None  # None: not known
    sha256: str | None  # None: not known
    sha256_prefix: str | None = None
    verified: str = "first use"  # where the hash is from: "declared", "hub", or recorded on "first use"
    auth: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None = None


def is_set(name: str) -> bool:
    """Whether an environment variable says yes."""
    return os.environ.get(name, "").lower() in _YES


def declared(file: RemoteFile, manual: bool) -> Wanted:
    """A file of a web or manual origin."""
    return Wanted(
        path=file.path,
        url=file.url,
        address=None if manual else file.url,
        bytes=file.bytes,
        sha256=file.sha256,
        sha256_prefix=file.sha256_prefix,
        verified="declared" if file.sha256 else "first use",
    )


def wanted(
    origin: Origin, listings: list[Path], policy: Policy, *, connected: bool, names_suffice: bool = True
) -> list[Wanted]:
    """The files of an origin, in reading order. Raises Failed when they cannot be known.

    listings:      folders that may hold what the hub listed before; the first keeps it.
    connected:     whether the hub may be asked.
    names_suffice: without its listing, take the declared names and no hashes; false: the listing is needed."""
    if not isinstance(origin, HubOrigin):
        return [declared(file, manual=origin.kind == "manual") for file in origin.files]
    name = f"listing-{sha256_json([origin.repo, origin.repo_type, origin.revision])[:12]}.json"
    known = _known([folder / name for folder in listings])
    if known is None and connected:
        known = _list(origin, policy)
        write_json(listings[0] / name, known)
    elif known is not None and not (listings[0] / name).exists():
        write_json(listings[0] / name, known)
    if known is None:
        if not names_suffice or any(set(pattern) & set("*?[") for pattern in origin.files):
            raise Failed("the names of its files are not known without asking the hub; go online once")
        known = {path: {"bytes": None, "sha256": None} for path in origin.files}
    return [_of_hub(origin, path, known[path]) for path in _matching(origin, list(known))]


def _known(paths: list[Path]) -> dict[str, Any] | None:
    """What the hub listed before: a commit never changes, so neither does its listing."""
    for path in paths:
        try:
            known = read_json(path)
            return {name: {"bytes": entry["bytes"], "sha256": entry["sha256"]} for name, entry in known.items()}
        except (ValueError, AttributeError, TypeError, KeyError):  # absent or damaged: the hub is asked again
            continue
    return None


def _matching(origin: HubOrigin, names: list[str]) -> list[str]:
    found: dict[str, None] = {}
    for pattern in origin.files:
        matches = sorted(fnmatch.filter(names, pattern)) if pattern not in names else [pattern]
        if not matches:
            raise Failed(f"expected {pattern} in it at commit {origin.revision[:12]}, found no such file")
        found |= dict.fromkeys(matches)
    for path in found:
        try:
            check_name(path, "file")
        except ValueError as error:
            raise Failed(f"a file of it has a name that is refused: {path!r}") from error
    return list(found)


def _of_hub(origin: HubOrigin, path: str, known: dict[str, Any]) -> Wanted:
    digest = origin.sha256.get(path)
    if digest and known["sha256"] not in (None, digest):
        raise Failed(f"{path}: expected sha256 {digest}, the hub has {known['sha256']}")

    def address(endpoint: str) -> str:
        return huggingface_hub.hf_hub_url(
            origin.repo, path, repo_type=origin.repo_type, revision=origin.revision, endpoint=endpoint
        )

    return Wanted(
        path=path,
        url=address(HUB),
        address=address(endpoint()),
        bytes=known["bytes"],
        sha256=digest or known["sha256"],
        verified="declared" if digest else "hub" if known["sha256"] else "first use",
        auth=_authorised,
    )


def endpoint() -> str:
    """The hub's address, or that of the mirror in HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _authorised(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the user's token (HF_TOKEN, or what `hf auth login` stored), where there is one."""
    if token := huggingface_hub.get_token():
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _list(origin: HubOrigin, policy: Policy) -> dict[str, Any]:
    """Name -> size and sha256 (where the hub has one: large files) of everything in a repository at its commit."""
    api = huggingface_hub.HfApi(endpoint=endpoint())
    for attempt in range(1, policy.attempts + 1):
        try:
            info = api.repo_info(
                origin.repo,
                repo_type=origin.repo_type,
                revision=origin.revision,
                files_metadata=True,
                timeout=policy.read_seconds,
            )
            break
        except (HTTPError, OSError) as error:
            failed = _failed(error, origin)
            if failed.status is not None and failed.status not in RETRIED:
                raise failed from error
            if attempt == policy.attempts:
                raise Failed(f"{failed}, {attempt} times in a row", failed.status, failed.code) from error
            wait = min(policy.first_wait * 2 ** (attempt - 1), policy.longest_wait)
            log.warning("%s: %s; again in %g s", origin.repo, failed, wait)
            policy.sleep(wait)
        except (ValueError, KeyError, TypeError) as error:
            raise Failed(f"{public(endpoint())} does not answer as a hub does") from error
    if info.sha != origin.revision:
        raise Failed(f"expected commit {origin.revision}, the hub answered with {info.sha}")
    return {
        file.rfilename: {"bytes": file.size, "sha256": file.lfs.sha256 if file.lfs else None}
        for file in info.siblings or ()
    }


def _failed(error: Exception, origin: HubOrigin) -> Failed:
    """What went wrong at the hub's listing, as what goes wrong with its files."""
    response = getattr(error, "response", None)
    if response is None:
        return Failed(f"no connection to {public(endpoint())} ({type(error).__name__})")
    status = response.status_code
    said = f"{status} {HTTPStatus(status).phrase}" if status in iter(HTTPStatus) else str(status)
    return explained(Failed(said, status, response.headers.get("X-Error-Code")), origin)


def explained(failed: Failed, origin: HubOrigin) -> Failed:
    """A refusal of the hub with what to do about it."""
    page = f"{HUB}/{'datasets/' if origin.repo_type == 'dataset' else ''}{origin.repo}"
    advice = {
        "GatedRepo": f"gated: accept its conditions at {page}, then set HF_TOKEN to a token of that account",
        "RevisionNotFound": f"it has no commit {origin.revision}: correct `revision`",
        "EntryNotFound": "its commit has no such file: correct `files`",
        "RepoNotFound": "no such repository, or a private one: correct `repo`, or set HF_TOKEN",
    }.get(failed.code or "")
    if advice is None and failed.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = f"no access: look at {page}, and set HF_TOKEN to a token that may read it"
    return Failed(f"{failed}; {advice}" if advice else str(failed), failed.status, failed.code)
