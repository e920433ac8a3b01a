"""The files of a hub repository at one commit: names, sizes and hashes as the hub lists them, kept for work offline.

`huggingface_hub` asks the hub, with the user's token and endpoint, and gives the addresses of the files. Their bytes
come by `lct.download.transfer`, like those of any web server: `hf_hub_download` removes an unfinished file when it
fails and takes another name when it starts again, so that nothing received would outlive a kill -9."""

import fnmatch
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import huggingface_hub
import requests
from huggingface_hub.errors import HTTPError

from lct.download.settings import HubOrigin, RemoteFile, web_address
from lct.download.transfer import FetchError, Policy, TransientError, public
from lct.files.atomic import read_json_or_empty, write_json
from lct.files.hashing import sha256_json

HUB = "https://huggingface.co"


def endpoint() -> str:
    """The hub's address, or that of the mirror in HF_ENDPOINT. Raises FetchError where that is no address."""
    address = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB
    try:
        web_address(address, "HF_ENDPOINT", "correct or unset it")
    except ValueError as error:
        raise FetchError(str(error)) from error
    return address


def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the user's token (HF_TOKEN, or what `hf auth login` stored), where there is one."""
    if token := huggingface_hub.get_token():
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise FetchError("HF_TOKEN: expected a token, found characters that none has; set it again, or unset it")
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def files(
    origin: HubOrigin, folders: list[Path], policy: Policy, *, connected: bool, names_suffice: bool = True
) -> tuple[RemoteFile, ...]:
    """The files of an origin, in reading order. Raises FetchError when they cannot be known.

    folders:       may hold an earlier listing of the hub; the first keeps it.
    connected:     whether the hub may be asked.
    names_suffice: without a listing, take the declared names and no hashes; false: the listing is needed."""
    name = f"listing-{sha256_json([origin.repo, origin.repo_type, origin.revision])[:12]}.json"
    listing = next((content for folder in folders if (content := _read(folder / name))), None)
    if listing is None and connected:
        listing = policy.repeat(lambda: _list(origin, policy), origin.repo)
    if listing is not None and _read(folders[0] / name) != listing:
        write_json(folders[0] / name, listing)
    if listing is None:
        if not names_suffice or any(set(pattern) & set("*?[") for pattern in origin.files):
            raise FetchError("the names of its files are not known without asking the hub; go online once")
        listing = {path: {"bytes": None, "sha256": None} for path in origin.files}
    paths: dict[str, None] = {}
    for pattern in origin.files:
        matches = [pattern] if pattern in listing else sorted(fnmatch.filter(listing, pattern))
        if not matches:
            raise FetchError(f"expected {pattern} in it at commit {origin.revision[:12]}, found no such file")
        paths |= dict.fromkeys(matches)
    return tuple(_file(origin, path, **listing[path]) for path in paths)


def _read(path: Path) -> dict[str, Any] | None:
    """A kept listing: a commit never changes, so neither does its listing. None: absent or damaged."""
    listing = read_json_or_empty(path)
    whole = all(isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} for entry in listing.values())
    return listing if listing and whole else None


def _file(origin: HubOrigin, path: str, bytes: int | None, sha256: str | None) -> RemoteFile:
    declared = origin.sha256.get(path)
    if declared and sha256 not in (None, declared):
        raise FetchError(f"{path}: expected sha256 {declared}, found {sha256} at the hub")
    url = huggingface_hub.hf_hub_url(
        origin.repo, path, repo_type=origin.repo_type, revision=origin.revision, endpoint=HUB
    )
    try:
        return RemoteFile(path=path, url=url, bytes=bytes or None, sha256=declared or sha256)
    except ValueError as error:
        raise FetchError(f"a file of it has a name that is refused: {path!r}") from error


def _list(origin: HubOrigin, policy: Policy) -> dict[str, Any]:
    """Name -> size and sha256 (where the hub has one: large files) of everything in a repository at its commit."""
    address = endpoint()
    try:
        info = huggingface_hub.HfApi(endpoint=address).repo_info(
            origin.repo,
            repo_type=origin.repo_type,
            revision=origin.revision,
            files_metadata=True,
            timeout=policy.read_seconds,
        )
    except (HTTPError, OSError) as error:
        response = getattr(error, "response", None)
        if response is None:
            raise TransientError(f"no connection to {public(address)} ({type(error).__name__})") from error
        try:
            policy.check_status(response.status_code, response.reason_phrase, response.headers)
        except FetchError as refusal:
            raise explained(refusal, origin) from error
        raise
    except Exception as error:  # noqa: BLE001 huggingface_hub and its client have no common base of errors
        why = "does not answer as a hub does, or a proxy or token that is set cannot be used"
        raise FetchError(f"{public(address)} {why} ({type(error).__name__})") from error
    if info.sha != origin.revision:
        raise FetchError(f"expected commit {origin.revision}, found {info.sha} at the hub")
    return {
        file.rfilename: {"bytes": file.size, "sha256": file.lfs.sha256 if file.lfs else None}
        for file in info.siblings or ()
    }


def explained(error: FetchError, origin: HubOrigin) -> FetchError:
    """A refusal of the hub with what to do about it."""
    page = f"{HUB}/{'datasets/' if origin.repo_type == 'dataset' else ''}{origin.repo}"
    advice = {
        "GatedRepo": f"gated: accept its conditions at {page}, then set HF_TOKEN to a token of that account",
        "RevisionNotFound": f"it has no commit {origin.revision}: correct `revision`",
        "EntryNotFound": "its commit has no such file: correct `files`",
        "RepoNotFound": "no such repository, or a private one: correct `repo`, or set HF_TOKEN",
    }.get(error.code or "")
    if advice is None and error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = f"no access: look at {page}, and set HF_TOKEN to a token that may read it"
    return FetchError(f"{error}; {advice}") if advice else error
