"""Damage in image files that decoders pass over: they fill what is missing with grey, and skip checksums."""

import io
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")  # 0 stands behind a data byte 255
_RESTARTS = range(0xD0, 0xD8)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_PROGRESSIVE = 0xC2  # Huffman-coded; the ends of arithmetic-coded data do not show whether all of them are there
_ALONE = {0x01, _START, _END, *_RESTARTS}  # markers without a length
_SEQUENTIAL = (0xC0, 0xC1)
_GREY = (127, 128)  # what blocks without data become
_FILLER = b"\x55" * 4096  # entropy-coded data of no meaning
_PNG_START = 8  # bytes in front of the first chunk
_UNWRITTEN = "data that end in zeros: a part of the file was not written"
_ZEROS = 64  # zero bytes at the end of arithmetic-coded data, where they do not occur by themselves


def fault(encoded: bytes, image: Image.Image) -> str | None:
    """What is damaged in a file that Pillow has decoded; None where nothing is known to be.

    encoded: the whole file. image: the image loaded from it, before it is changed."""
    if image.format in ("JPEG", "MPO"):
        return _jpeg_fault(encoded, image)
    if image.format == "PNG":
        return _png_fault(encoded)
    if image.format == "AVIF":
        return _UNWRITTEN if not any(encoded[-_ZEROS:]) else None
    return _webp_fault(encoded) if image.format == "WEBP" else None


def _jpeg_fault(encoded: bytes, image: Image.Image) -> str | None:
    """No end marker; missing scans of a progressive image; blocks without data in a sequential one."""
    frame, precision, end = 0, {}, None
    for marker, at, segment in _jpeg_segments(encoded):
        if marker == _END:
            end = at
            break
        if marker in (*_SEQUENTIAL, _PROGRESSIVE) and not frame:
            frame, components = marker, segment[6::3]  # behind precision, height, width and count
        elif marker == _SCAN:
            count = segment[0]
            first, last, bits = segment[2 * count + 1 : 2 * count + 4]
            for component in segment[1 : 2 * count + 1 : 2]:
                precision |= {(component, k): bits & 15 for k in range(first, last + 1)}
    if end is None:
        return "no end-of-image marker: it is cut off"
    if frame == _PROGRESSIVE:
        whole = all(precision.get((component, k)) == 0 for component in components for k in range(64))
        if not whole or _grows(encoded, end, image):
            return "a progressive image without all of its scans: it is cut off"
        return None
    grey = np.isin(image.getpixel((image.width - 1, image.height - 1)), _GREY).all()
    return "blocks without data: it is cut off" if frame and grey and _grows(encoded, end, image) else None


def _jpeg_segments(encoded: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, its offset, content of its segment), up to the end of the file; restart markers are left out."""
    position = 0
    while match := _JPEG_MARKER.search(encoded, position):
        marker, position = match[1][0], match.end()
        if marker in _RESTARTS:
            continue
        segment = b""
        if marker not in _ALONE:
            size = int.from_bytes(encoded[position : position + 2], "big")
            segment = encoded[position + 2 : position + size]
            position += max(2, size)
        yield marker, match.start(), segment


def _grows(encoded: bytes, end: int, image: Image.Image) -> bool:
    """Whether more data in front of the end marker changes the image: then data are missing there."""
    with Image.open(io.BytesIO(encoded[:end] + _FILLER + encoded[end:]), formats=("JPEG",)) as longer:
        return longer.convert(image.mode).tobytes() != image.tobytes()


def _png_fault(encoded: bytes) -> str | None:
    """A wrong checksum of a chunk that decides the image, or no last chunk."""
    position = _PNG_START
    while position + 12 <= len(encoded):
        size, kind = struct.unpack_from(">I4s", encoded, position)
        content_end = position + 8 + size
        critical = not kind[0] & 0x20 or kind == b"tRNS"
        if content_end + 4 > len(encoded):
            break
        checksum = int.from_bytes(encoded[content_end : content_end + 4], "big")
        if critical and zlib.crc32(memoryview(encoded)[position + 4 : content_end]) != checksum:
            return f"a wrong checksum of chunk {kind.decode('latin-1')}"
        if kind == b"IEND":
            return None
        position = content_end + 4
    return "no last chunk (IEND): it is cut off"


def _webp_fault(encoded: bytes) -> str | None:
    """Less than the header's length, or an end of zeros where the coder writes none."""
    expected = int.from_bytes(encoded[4:8], "little") + 8
    if len(encoded) < expected:
        return f"{len(encoded)} of {expected} bytes: it is cut off"
    position = 12
    while position + 8 <= expected:
        kind, size = encoded[position : position + 4], int.from_bytes(encoded[position + 4 : position + 8], "little")
        if kind == b"VP8 " and not any(encoded[position + 8 : position + 8 + size][-_ZEROS:]):
            return _UNWRITTEN
        position += 8 + size + size % 2
    return None
