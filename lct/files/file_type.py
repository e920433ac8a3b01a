"""What a file is by its first bytes, whatever its name says."""

HEAD_BYTES = 512  # that many first bytes are enough here
_HTML = (b"<!doctype html", b"<html", b"<head")


def is_html(head: bytes) -> bool:
    """Whether a file with these first bytes is a web page."""
    return _text(head).startswith(_HTML)


def describe(head: bytes) -> str:
    """A description, for messages, of a file that is not what it should be. head: its first bytes."""
    if not head:
        return "an empty file"
    if is_html(head) or _text(head).startswith(b"<?xml"):
        return "a web page (HTML), such as an error or log-in page"
    return f"something else, starting with {head[:8].hex(' ')}"


def _text(head: bytes) -> bytes:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
