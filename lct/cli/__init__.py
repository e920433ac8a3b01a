"""Command line: the `lct` verbs; parse, call, print."""

from lct.files import environment  # noqa: F401
