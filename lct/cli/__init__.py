"""Command line: one thin file per rule and the `lct` verbs; parse, load, call, write atomically."""

from lct.files import environment  # noqa: F401
