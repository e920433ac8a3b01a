"""What a file is by its first bytes, whatever its name says."""

HEAD_BYTES = 512  # that many first bytes are enough here
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"\xff\x0a", b"\0\0\0\x0cJXL ")
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")  # of images in the container that MP4 has too
_HTML = (b"<!doctype html", b"<html", b"<head")


def is_html(head: bytes) -> bool:
    """Whether a file with these first bytes is a web page."""
    return _text(head).startswith(_HTML)


def is_image(head: bytes) -> bool:
    """Whether a file with these first bytes is an image of a usual format."""
    boxed = head[4:8] == b"ftyp" and head[8:12] in _BRANDS
    return head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or boxed


def describe(head: bytes) -> str:
    """A description, for messages, of a file that is not what it should be. head: its first bytes."""
    if not head:
        return "an empty file"
    if is_html(head) or _text(head).startswith(b"<?xml"):
        return "a web page (HTML), such as an error or log-in page"
    return f"something else, starting with {head[:8].hex(' ')}"


def _text(head: bytes) -> bytes:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
