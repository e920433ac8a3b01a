"""The jobs of the graph, one module for each rule: a typed function that does the work, and a thin `main`."""

from lct.files import environment  # noqa: F401
