"""One file over HTTP or HTTPS: resumed where it stopped, retried, and never taken for what it is not.

A server is asked to go on (Range) from the first byte that is missing, on condition (If-Range) that its file is still
the same; one that cannot, or whose file has changed, starts again at the first byte. Redirects are followed, never
from https to http; certificates are always checked."""

import email.utils
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3

from lct.download.part import Part, Source, check_space
from lct.files.formatting import format_duration, format_size

log = logging.getLogger(__name__)

RETRIED = {408, 425, 429, 500, 502, 503, 504}  # states of a server that may pass
_HEAD, _CHUNK = 512, 1 << 18  # bytes read at a time: at first, and then at most
_PAGES = (".html", ".htm")  # names of files that may be pages
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How patient a transfer is. The waits are the same every time."""

    attempts: int = 7  # failures in a row without one new byte, after which an address is given up
    first_wait: float = 1.0  # seconds before the second attempt; doubled with every further one
    longest_wait: float = 60.0  # seconds between attempts at most
    longest_retry_after: float = 600.0  # seconds; a server that asks for more is given up
    connect_seconds: float = 15.0  # for a connection to come about
    read_seconds: float = 60.0  # without any byte
    redirects: int = 8  # followed at most
    report_seconds: float = 5.0  # between progress lines
    sleep: Callable[[float], None] = time.sleep  # waits; tests put another in its place


class Failed(ValueError):
    """An address did not give the file; says why. `status` and `code` are the server's, where it answered."""

    def __init__(self, reason: str, status: int | None = None, code: str | None = None):
        super().__init__(reason)
        self.status, self.code = status, code


class _Again(Exception):
    """An attempt failed for a reason that may pass; `wait`: seconds the server asks for, 0: none are needed."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


def public(url: str) -> str:
    """An address as it may be shown: without user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def looks_like_html(path: Path) -> bool:
    """Whether a file begins as an HTML page does, and is not called one."""
    with open(path, "rb") as handle:
        return _is_html(path.name, handle.read(_HEAD))


def _is_html(name: str, first: bytes) -> bool:
    return _HTML.match(first) is not None and not name.endswith(_PAGES)


def receive(
    part: Part,
    url: str,
    *,
    expected: int | None = None,
    policy: Policy,
    auth: Callable[[requests.PreparedRequest], requests.PreparedRequest] | None = None,
) -> None:
    """Receive the whole of `url` into `part`, going on from what is there.

    expected: declared size, bytes; a server that offers another is refused before the first byte.
    auth:     adds credentials to the request; they are not sent on to another host.
    Raises Failed when the address does not give the file, and OSError when the disk is full."""
    part.load(public(url))
    if part.inherited:
        log.info("%s: %s are here from an earlier run", part.target.name, format_size(part.size))
    name, failures, furthest = part.target.name, 0, part.size
    with requests.Session() as session:
        session.max_redirects = policy.redirects
        while not part.complete:
            try:
                _attempt(session, part, url, expected, policy, auth)
                break
            except _Again as again:
                failures = 1 if part.size > furthest else failures + 1
                furthest = max(furthest, part.size)
                if failures >= policy.attempts:
                    raise Failed(f"{again}, {failures} times in a row") from again
                backoff = min(policy.first_wait * 2 ** (failures - 1), policy.longest_wait)
                wait = backoff if again.wait is None else again.wait
                log.warning("%s: %s; again in %g s", name, again, wait)
                policy.sleep(wait)
            finally:
                part.close()


def _attempt(session, part: Part, url: str, expected: int | None, policy: Policy, auth) -> None:
    headers = {"Accept-Encoding": "identity", "User-Agent": "lct"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.source.validator:
            headers["If-Range"] = part.source.validator
    timeout = (policy.connect_seconds, policy.read_seconds)
    try:
        with session.get(url, headers=headers, stream=True, timeout=timeout, auth=auth) as response:
            _follow_safely(response)
            _receive_body(response, part, public(url), expected, policy)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _classified(error, part, policy) from error


def _receive_body(response: requests.Response, part: Part, url: str, expected: int | None, policy: Policy) -> None:
    name, source = part.target.name, _source(response, url)
    _check_status(response, part, policy)
    _check_type(response, name)
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if first is None or int(first[1]) != part.size or _differs(source, part.source):
            part.discard()
            raise _Again("the file at the server is not the one that was begun; starting from its first byte", 0)
        log.info("%s: going on after %s", name, format_size(part.size))
    elif part.size:
        why = "the file has changed at the server" if _differs(source, part.source) else "the server cannot go on"
        log.warning("%s: %s: starting from its first byte", name, why)
        part.discard()
    if source.total is not None and expected is not None and source.total != expected:
        part.discard()
        raise Failed(f"expected {expected} bytes, the server has {source.total}")
    if source.total is None and expected is None and "chunked" not in response.headers.get("Transfer-Encoding", ""):
        raise Failed("the server does not say how long the file is; declare `bytes`")
    check_space(part.path.parent, (source.total or expected or 0) - part.size, name)
    report = _reporter(name, part.size, source.total or expected, policy.report_seconds)
    for block in _blocks(response):
        if not part.size:
            if _is_html(name, block):
                raise Failed(_html(name))
            part.begin(source)
        part.append(block)
        report(part.size)
        if expected is not None and part.size > expected:
            part.discard()
            raise Failed(f"expected {expected} bytes, the server sends more")
    total = source.total if source.total is not None else expected
    if total is not None and part.size < total:
        raise _Again(f"the connection ended after {part.size} of {total} bytes")
    if not part.size:
        raise _Again("the server sent no byte")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives, so that a cut or a silence loses nothing; the first block tells what the file is."""
    block = response.raw.read(_HEAD, decode_content=False)
    while block:
        yield block
        block = response.raw.read1(_CHUNK, decode_content=False)


def _check_status(response: requests.Response, part: Part, policy: Policy) -> None:
    status = response.status_code
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
        part.discard()
        raise _Again("the file at the server is shorter than what was received; starting from its first byte", 0)
    said = f"{status} {response.reason or ''}".strip()
    if status in RETRIED:
        wait = _retry_after(response.headers.get("Retry-After"))
        if wait is not None and wait > policy.longest_retry_after:
            raise Failed(f"{said}; the server asks to come back in {wait:.0f} s", status)
        raise _Again(said, wait)
    raise Failed(said, status, response.headers.get("X-Error-Code"))


def _check_type(response: requests.Response, name: str) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and not name.endswith(_PAGES):
        raise Failed(_html(name))
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity" and not name.endswith((".gz", ".tgz")):  # some servers call these encoded
        raise Failed(f"expected the file as it is, the server sends it encoded ({encoding}); declare another origin")


def _html(name: str) -> str:
    return (
        f"expected {name}, found an HTML page, usually a licence to accept or a login: open the address in a browser, "
        "or declare another origin"
    )


def _source(response: requests.Response, url: str) -> Source:
    """What the answer says of the whole file, whether it brings all of it or the rest."""
    headers = response.headers
    tag = headers.get("ETag", "")
    validator = tag if tag.startswith('"') else headers.get("Last-Modified")  # a weak tag does not promise equal bytes
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        total = headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = headers.get("Content-Length", "")
    return Source(url=url, validator=validator, total=int(total) if total.isdigit() else None)


def _differs(now: Source, begun: Source) -> bool:
    """Whether two answers are about different files; what an answer leaves out says nothing."""
    pairs = ((now.total, begun.total), (now.validator, begun.validator))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _follow_safely(response: requests.Response) -> None:
    schemes = [urlsplit(answer.url).scheme for answer in (*response.history, response)]
    if any(before == "https" and after == "http" for before, after in pairwise(schemes)):
        raise Failed("redirected from https to http, which anybody on the way can change")


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _classified(error: Exception, part: Part, policy: Policy) -> Exception:
    """The same failure as one worth another attempt, or not; in words that hold no address and no secret."""
    inner = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    if isinstance(inner, ssl.SSLCertVerificationError):
        return Failed(f"the server's certificate is not to be trusted: {inner.verify_message}")
    if isinstance(error, requests.TooManyRedirects):
        return Failed(f"more than {policy.redirects} redirects")
    if isinstance(error, ValueError):  # an address, its own or a redirect's, that is none
        return Failed(f"no usable address ({type(error).__name__})")
    if isinstance(error, requests.ConnectTimeout):
        return _Again(f"no connection within {policy.connect_seconds:g} s")
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return _Again(f"nothing received for {policy.read_seconds:g} s")
    if part.size and isinstance(error, urllib3.exceptions.ProtocolError):
        return _Again(f"the connection was cut after {part.size} bytes")
    return _Again(f"no connection: {getattr(inner, 'strerror', None) or type(inner).__name__}")


def _reporter(name: str, begun: int, total: int | None, every_seconds: float) -> Callable[[int], None]:
    """A function to be told how many bytes are there, which logs them, the rate and the time that remains."""
    started = last = time.monotonic()

    def report(size: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every_seconds and size != total:
            return
        last = now
        rate = (size - begun) / max(now - started, 1e-9)
        left = f" of {format_size(total)}" if total else ""
        seconds = (total - size) / rate if total and rate else 0
        eta = f" eta={format_duration(seconds)}" if total else ""
        log.info("%s %s%s rate=%s/s%s", name, format_size(size), left, format_size(rate), eta)

    return report
