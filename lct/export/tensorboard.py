"""Scalars as TensorBoard's event files, written without TensorBoard: a record per step, in its own binary format.

The lock holds neither tensorboard nor tensorboardX, each of which brings gRPC or protobuf along; scalars need 40 lines.
Format: TFRecord (length, masked CRC-32C, data, masked CRC-32C) around Event {1: wall time, 2: step, 3: version,
5: Summary {1: Value {1: tag, 2: float}}}. Wall time is zero, so that equal curves give equal bytes.
"""

import math
import struct
from typing import Any

NAME = "events.out.tfevents.0.lct"


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli's polynomial, reflected
        table.append(crc)
    return table


_CRC = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _event(step: int, body: bytes) -> bytes:
    return _record(_varint(1 << 3 | 1) + struct.pack("<d", 0.0) + _varint(2 << 3) + _varint(step) + body)


def events(curve: dict[str, list[Any]]) -> bytes:
    """The event file of a curves.json: every list but `step` is a scalar; gaps and non-finite values are left out."""
    parts = [_event(0, _field(3, b"brain.Event:2"))]
    for i, step in enumerate(curve["step"]):
        values = b""
        for tag, listed in curve.items():
            if tag != "step" and isinstance(listed[i], int | float) and math.isfinite(listed[i]):
                values += _field(1, _field(1, tag.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", listed[i]))
        parts.append(_event(int(step), _field(5, values)))
    return b"".join(parts)
