"""Examples of property tests: the same on every run; `HYPOTHESIS_SEED=n` in the environment draws others."""

import os

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st


def examples(count):
    """That many examples, without a limit for one of them."""
    number = os.environ.get("HYPOTHESIS_SEED")
    options = {"max_examples": count, "deadline": None, "database": None, "derandomize": number is None}
    options["suppress_health_check"] = list(HealthCheck)
    return lambda test: settings(**options)(seed(int(number))(test) if number else test)


@st.composite
def damaged(draw, files, most=4):
    """A whole file with some bytes changed, taken away or added."""
    content = bytearray(draw(files))
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(("set", "cut", "end", "add", "zero")))
        if how == "set" and content:
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 64))]
        elif how == "end":
            del content[at:]
        elif how == "add":
            content[at:at] = draw(st.binary(max_size=32))
        else:
            content[at : at + 16] = bytes(len(content[at : at + 16]))
    return bytes(content)
