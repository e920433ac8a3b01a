"""One file over HTTP or HTTPS: resumed where it stopped, retried, and never taken for what it is not.

requests makes the connections; urllib3's Retry says what is tried again, when and how often. Neither goes on with a
body that was cut off: here the server is asked for the rest (Range), on condition (If-Range) that its file is still
the same. What was received lies in .NAME.part, and which file it is of in .NAME.part.json; both survive kill -9.
Redirects are followed, never from https to http; certificates are always checked."""

import errno
import logging
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import requests
import urllib3
from urllib3.util.retry import Retry

from lct.files.atomic import publish, read_json_or_empty, require_space, write_fully, write_json
from lct.files.file_type import is_html
from lct.files.formatting import format_size
from lct.files.progress import ProgressLogger

log = logging.getLogger(__name__)
T = TypeVar("T")
Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # states of a server that may pass
_CHUNK = 1 << 18  # bytes read at a time at most
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FetchError(ValueError):
    """An address or an origin does not give a file. `status` and `code` are the server's, where it answered."""

    def __init__(self, reason: str, status: int | None = None, code: str | None = None):
        super().__init__(reason)
        self.status, self.code = status, code


class TransientError(Exception):
    """An attempt failed for a reason that may pass. wait: seconds until the next; None: as the policy says."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How patient a transfer is."""

    attempts: int = 7  # failures in a row without one new byte, after which an address is given up
    longest_wait: float = 60.0  # seconds between attempts at most; the waits are 0, 2, 4, 8, ...
    longest_retry_after: float = 600.0  # seconds; a server that asks for more is given up
    connect_seconds: float = 15.0  # for a connection to come about
    read_seconds: float = 60.0  # without any byte
    redirects: int = 8  # followed at most
    sleep: Callable[[float], None] = time.sleep  # waits; tests put another in its place

    def _retry(self) -> Retry:
        waits = {"backoff_factor": 1, "backoff_max": self.longest_wait, "retry_after_max": 2**31}
        return Retry(self.attempts - 1, status_forcelist=_TRANSIENT, **waits)

    def repeat(self, attempt: Callable[[], T], what: str, received: Callable[[], int] = lambda: 0) -> T:
        """The value of `attempt`, called again while it raises TransientError; FetchError when patience is over.

        received: bytes received so far; with new ones the count of failures starts again."""
        retry, largest = self._retry(), received()
        while True:
            try:
                return attempt()
            except TransientError as error:
                if received() > largest:
                    retry, largest = self._retry(), received()
                try:
                    retry = retry.increment("GET", error=error)
                except urllib3.exceptions.MaxRetryError:
                    raise FetchError(f"{error}, {self.attempts} times in a row") from error
                wait = retry.get_backoff_time() if error.wait is None else error.wait
                log.warning("%s: %s; next attempt in %g s", what, error, wait)
                self.sleep(wait)

    def check_status(self, status: int, reason: str, headers: Any) -> None:
        """Raise FetchError for an answer that is no success, TransientError where that may pass."""
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        text, retry = f"{status} {reason}".strip(), self._retry()
        if not retry.is_retry("GET", status):
            raise FetchError(text, status, headers.get("X-Error-Code"))
        try:
            wait = retry.parse_retry_after(headers["Retry-After"]) if "Retry-After" in headers else None
        except urllib3.exceptions.InvalidHeader:
            wait = None
        if wait is not None and wait > self.longest_retry_after:
            raise FetchError(f"{text}; the server asks to come back in {wait:.0f} s", status)
        raise TransientError(text, wait)


def public(url: str) -> str:
    """An address as it may be shown: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_unexpected_html(name: str, head: bytes) -> bool:
    """Whether a file that begins with the bytes `head` is a web page, and its name does not say so."""
    return is_html(head) and not name.endswith((".html", ".htm"))


class Part:
    """The bytes of a file received so far, and the server's description of the whole: url, validator, total."""

    def __init__(self, target: Path):
        self.target = target  # the name that the whole file gets
        self.path = target.with_name(f".{target.name}.part")
        self._description = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes received."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def description(self) -> dict[str, Any]:
        return read_json_or_empty(self._description)

    def discard(self) -> None:
        """Remove everything received."""
        self.path.unlink(missing_ok=True)
        self._description.unlink(missing_ok=True)

    def append(self, block: bytes, description: dict[str, Any]) -> None:
        """Add bytes. OSError with a line that says what to do when the disk is full; the others are kept."""
        if not self.size:
            write_json(self._description, description)
        try:
            with open(self.path, "ab", buffering=0) as handle:
                write_fully(handle, block)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise OSError(
                error.errno,
                f"{self.target}: expected space for the whole file, found: {os.strerror(error.errno)}; the "
                f"{self.size} bytes received are kept: free space, then run the same command again",
            ) from error

    def publish(self) -> None:
        """Give the whole file its name."""
        publish(self.path, self.target)
        self._description.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Receives the whole of an address into `part`, going on from what is there."""

    part: Part
    url: str
    policy: Policy
    size: int | None = None  # declared, bytes; a server that offers another is refused before the first byte
    auth: Auth | None = None  # adds credentials to the request; requests does not send them on to another host

    def run(self) -> bool:
        """Returns whether bytes of an earlier run are in the file.

        Raises FetchError when the address does not give the file, and OSError when the disk is full."""
        part, description = self.part, self.part.description
        if description.get("url") != public(self.url):
            part.discard()
        resumed = part.size > 0
        if resumed:
            log.info("%s: %s are here from an earlier run", part.target.name, format_size(part.size))
        if not resumed or part.size != description.get("total"):
            with requests.Session() as session:
                session.max_redirects = self.policy.redirects
                self.policy.repeat(lambda: self._attempt(session), part.target.name, lambda: part.size)
        return resumed

    def _attempt(self, session: requests.Session) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "lct"}
        if self.part.size:
            headers["Range"] = f"bytes={self.part.size}-"
            if validator := self.part.description.get("validator"):
                headers["If-Range"] = validator
        timeout = (self.policy.connect_seconds, self.policy.read_seconds)
        try:
            with session.get(self.url, headers=headers, stream=True, timeout=timeout, auth=self.auth) as response:
                self._check(response)
                self._receive(response)
        except FetchError:
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._explained(error) from error

    def _check(self, response: requests.Response) -> None:
        """Refuse an answer that does not bring the file, before its body is read."""
        name, headers = self.part.target.name, response.headers
        if ("https", "http") in pairwise(urlsplit(step.url).scheme for step in (*response.history, response)):
            raise FetchError("redirected from https to http, which anybody on the way can change")
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self.part.size:
            self.part.discard()
            raise TransientError("the file at the server is shorter than what was received; starting again", wait=0)
        self.policy.check_status(response.status_code, response.reason or "", headers)
        content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content_type in ("text/html", "application/xhtml+xml") and is_unexpected_html(name, b"<html"):
            raise FetchError(
                f"expected {name}, found an HTML page, usually a licence to accept or a login: open the address in a "
                "browser, or declare another origin"
            )
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity" and not name.endswith((".gz", ".tgz")):  # some servers call these encoded
            raise FetchError(f"expected the file as it is, found it encoded ({encoding}); declare another origin")

    def _receive(self, response: requests.Response) -> None:
        part, description = self.part, _describe(response, public(self.url))
        if part.size:
            self._keep_or_discard(response, description)
        total = self.size if description["total"] is None else description["total"]
        if self.size not in (None, total):
            part.discard()
            raise FetchError(f"expected {self.size} bytes, found {total} at the server")
        if total is None and "chunked" not in response.headers.get("Transfer-Encoding", ""):
            raise FetchError("expected the size in the server's answer, found none; declare `bytes`")
        size = part.size
        require_space(part.path.parent, (total or 0) - size, part.target.name)
        progress = ProgressLogger(part.target.name, total, done=size, amount=format_size)
        while block := response.raw.read1(_CHUNK, decode_content=False):  # a cut or a silence loses nothing
            part.append(block, description)
            size += len(block)
            progress(size)
            if self.size is not None and size > self.size:
                part.discard()
                raise FetchError(f"expected {self.size} bytes, found more at the server")
        if not size:
            raise TransientError("the server sent no byte")
        if total is not None and size < total:
            raise TransientError(f"the connection ended after {size} of {total} bytes")

    def _keep_or_discard(self, response: requests.Response, description: dict[str, Any]) -> None:
        """Keep what was received when the answer goes on from there."""
        part, old = self.part, self.part.description
        changed = any(None not in (old.get(k), value) and old[k] != value for k, value in description.items())
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            if changed or first is None or int(first[1]) != part.size:
                part.discard()
                raise TransientError("the file has changed at the server; starting from its first byte", wait=0)
            log.info("%s: going on after %s", part.target.name, format_size(part.size))
        else:
            reason = "the file has changed at the server" if changed else "the server cannot go on"
            log.warning("%s: %s; starting from its first byte", part.target.name, reason)
            part.discard()

    def _explained(self, error: Exception) -> Exception:
        """The same failure as one that may pass, or not; in words that hold no address and no secret."""
        cause = error
        while (inner := cause.__cause__ or cause.__context__) is not None:
            cause = inner
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchError(f"the server's certificate is not to be trusted: {cause.verify_message}")
        if isinstance(error, requests.TooManyRedirects):
            return FetchError(f"more than {self.policy.redirects} redirects")
        if isinstance(error, ValueError):  # the address, or a redirect's, is none; or that of a proxy
            proxy = "; or is a proxy that is set none?" if getproxies() else ""
            return FetchError(f"no usable address ({type(error).__name__}){proxy}")
        if isinstance(error, requests.ConnectTimeout):
            return TransientError(f"no connection within {self.policy.connect_seconds:g} s")
        if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
            return TransientError(f"nothing received for {self.policy.read_seconds:g} s")
        if self.part.size and isinstance(error, urllib3.exceptions.ProtocolError):
            return TransientError(f"the connection was cut after {self.part.size} bytes")
        return TransientError(f"no connection: {getattr(cause, 'strerror', None) or type(cause).__name__}")


def _describe(response: requests.Response, url: str) -> dict[str, Any]:
    """The whole file, whether an answer brings all of it or the rest; None: the server does not say."""
    headers, tag = response.headers, response.headers.get("ETag", "")
    total = headers.get("Content-Length", "")
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        total = headers.get("Content-Range", "").rpartition("/")[2]
    validator = tag if tag.startswith('"') else headers.get("Last-Modified")  # a weak tag allows other bytes
    return {"url": url, "validator": validator, "total": int(total) if total.isdigit() else None}
