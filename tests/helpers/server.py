"""A web server on 127.0.0.1 that fails as told, and a hub good enough for huggingface_hub.

    with serve({"a.zip": content}) as url:  # f"{url}/a.zip"
    with serve({"a.zip": content}, {"a.zip": [status(503), cut(100)]}) as url:  # first 503, then cut, then whole
    with serve(hub=[Repository("owner/name", "dataset", COMMIT, {"0.parquet": content})]) as url:  # HF_ENDPOINT=url

The value is the address, a string that also knows: `requests` (what was asked for), `sent` (bytes of bodies by path),
`files` (path -> content, which a test may change while the server runs).
"""

import hashlib
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request, or to every one from then on."""

    status: int | None = None  # answered in the place of the file
    headers: dict[str, str] = field(default_factory=dict)  # sent with it, or with the file
    body: bytes = b""  # sent with `status`
    cut: int | None = None  # bytes of the body after which the connection is closed
    stall: float = 0.0  # seconds of silence after `cut` bytes, before the connection is closed
    plain: bool = False  # ignores Range, names no ETag
    chunked: bool = False  # does not say how long the file is, but where it ends
    unsized: bool = False  # says neither: closes the connection at the end
    forever: bool = False  # happens to all further requests too
    then: Callable[[], None] = lambda: None  # called after the answer: to change the file


def status(code: int, **more) -> Fault:
    return Fault(status=code, **more)


def cut(after: int, **more) -> Fault:
    return Fault(cut=after, **more)


@dataclass
class Repository:
    """A hub repository at one commit."""

    name: str  # owner/name
    kind: str  # "dataset" or "model"
    revision: str  # commit
    files: dict[str, bytes]
    small: tuple[str, ...] = ()  # files outside Git LFS, of which the hub has no sha256
    token: str | None = None  # a gated repository: who asks without it is refused


class Site(str):
    """The address of a running server, and what has happened there."""

    requests: list[tuple[str, str, dict[str, str]]]  # method, path, headers
    sent: Counter
    files: dict[str, bytes]
    faults: dict[str, list[Fault]]
    hub: list[Repository]


@contextmanager
def serve(
    files: dict[str, bytes] | None = None,
    faults: dict[str, list[Fault]] | None = None,
    hub: list[Repository] | None = None,
    tls: Path | None = None,
) -> Iterator[Site]:
    """Serve `files` (path without leading slash -> content) until the block ends; `tls`: certificate with its key."""
    server = _Server(("127.0.0.1", 0), _Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site = Site(f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}")
    site.requests, site.sent, site.files, site.hub = [], Counter(), dict(files or {}), hub or []
    site.faults = {path: list(some) for path, some in (faults or {}).items()}
    server.site = site
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Nothing on the terminal: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server.site
        path = unquote(urlsplit(self.path).path).lstrip("/")
        site.requests.append((self.command, path, dict(self.headers)))
        waiting = site.faults.get(path, [])
        fault = waiting[0] if waiting else Fault()
        if waiting and not fault.forever:
            waiting.pop(0)
        if fault.status is not None:
            self._answer(fault.status, fault.body, fault.headers)
        elif path in site.files:
            self._file(path, site.files[path], fault)
        else:
            self._hub(path, fault)
        fault.then()

    do_HEAD = do_GET

    def log_message(self, format, *words) -> None:
        """Nothing on the terminal."""

    def _answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, path: str, content: bytes, fault: Fault, headers: dict[str, str] | None = None) -> None:
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        asked, first = self.headers.get("Range"), 0
        same = self.headers.get("If-Range") in (None, tag)
        if asked and same and not fault.plain:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            if first >= len(content):
                return self._answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        self.send_response(206 if asked and same and not fault.plain else 200)
        told = {"Content-Type": "application/octet-stream", **(headers or {}), **fault.headers}
        if not fault.plain:
            told |= {"ETag": tag, "Accept-Ranges": "bytes"}
        if asked and same and not fault.plain:
            told["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if fault.chunked:
            told["Transfer-Encoding"] = "chunked"
        elif not fault.unsized:
            told["Content-Length"] = str(len(content) - first)
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "GET":
            return None
        body = content[first:]
        whole = not fault.unsized and (fault.cut is None or fault.cut >= len(body))
        body = body[: fault.cut]
        self.server.site.sent[path] += len(body)
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" * whole) if fault.chunked else body)
            self.wfile.flush()
            time.sleep(fault.stall)
        except OSError:  # the client has gone
            whole = False
        self.close_connection = not whole
        return None

    # --- the hub: repository information with file metadata, and the files ---------------------------------------
    def _hub(self, path: str, fault: Fault) -> None:
        for repository in self.server.site.hub:
            prefix = "datasets/" if repository.kind == "dataset" else ""
            if path.startswith(f"api/{repository.kind}s/{repository.name}"):
                return self._repository(repository, path.partition("/revision/")[2])
            if path.startswith(f"{prefix}{repository.name}/resolve/"):
                revision, _, name = path.partition("/resolve/")[2].partition("/")
                return self._resolve(repository, revision, name, path, fault)
        if path.startswith("api/") or "/resolve/" in path:
            return self._answer(401, headers={"X-Error-Code": "RepoNotFound"})
        return self._answer(404)

    def _refused(self, repository: Repository) -> bool:
        given = self.headers.get("Authorization")
        if repository.token is None or given == f"Bearer {repository.token}":
            return False
        self._answer(401 if given is None else 403, headers={"X-Error-Code": "GatedRepo"})
        return True

    def _repository(self, repository: Repository, revision: str) -> None:
        if self._refused(repository):
            return None
        if revision not in ("", "main", repository.revision):
            return self._answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, content in repository.files.items():
            entry = {"rfilename": name, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            if name not in repository.small:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        about = {"id": repository.name, "sha": repository.revision, "siblings": siblings, "tags": []}
        about |= {"private": False, "gated": "manual" if repository.token else False, "disabled": False}
        body = json.dumps(about | {"downloads": 0, "likes": 0}).encode()
        return self._answer(200, body, {"Content-Type": "application/json"})

    def _resolve(self, repository: Repository, revision: str, name: str, path: str, fault: Fault) -> None:
        if self._refused(repository):
            return None
        if revision not in ("main", repository.revision):
            return self._answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        if name not in repository.files:
            return self._answer(404, headers={"X-Error-Code": "EntryNotFound"})
        commit = {"X-Repo-Commit": repository.revision}
        content = repository.files[name]
        if name in repository.small:
            return self._file(path, content, fault, commit)
        stored = f"stored/{hashlib.sha256(content).hexdigest()}"
        self.server.site.files[stored] = content
        if fault != Fault():
            self.server.site.faults.setdefault(stored, []).append(fault)
        told = commit | {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{stored.rpartition("/")[2]}"'}
        elsewhere = self.server.site.replace("127.0.0.1", "localhost")  # another host, as the hub's storage is
        return self._answer(302, headers=told | {"Location": f"{elsewhere}/{stored}?X-Amz-Signature=very-secret"})
