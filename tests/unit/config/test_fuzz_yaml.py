"""Datasets' YAML files that nobody meant: they are taken, or one line names the file."""

import copy
import json

import pytest
import yaml as plain_yaml
from hypothesis import given
from hypothesis import strategies as st

from lct.config.folder import load_yaml
from lct.config.model import Dataset
from lct.config.schema import build
from tests.helpers import ROOT
from tests.helpers.fuzz import damaged, examples

pytestmark = pytest.mark.slow
DATASETS = [plain_yaml.safe_load(path.read_text()) for path in sorted((ROOT / "config/datasets").glob("*.yaml"))]
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.dates(), st.binary(max_size=4)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(), st.none()), inner, max_size=3),
        st.sampled_from(
            ({"kind": "folder"}, {"kind": "archive", "path": 1}, {"kind": []}, {"kind": "lmdb", "path": ""})
        ),
    ),
    max_leaves=5,
)


@st.composite
def edited(draw):
    """A dataset's settings with other values, keys, or lines."""
    values = json.loads(json.dumps(draw(st.sampled_from(DATASETS))))
    for _ in range(draw(st.integers(1, 3))):
        place = values
        while isinstance(place, dict) and place:
            key = draw(st.sampled_from(sorted(place, key=repr)))
            if not isinstance(place[key], dict) or draw(st.booleans()):
                place[draw(st.sampled_from((key, key, "more")))] = copy.deepcopy(draw(VALUES))
                break
            place = place[key]
    text = plain_yaml.safe_dump(values, allow_unicode=draw(st.booleans())).encode()
    return text if draw(st.booleans()) else draw(damaged(st.just(text), most=2))


ODD = (
    "? [a]\n: b",
    "a: 2024-99-99",
    "&a [*a]",
    "a: &x {b: *x}",
    "a: !!int x",
    "a: !!python/none x",
    "- a",
    "\0",
    "a: 1e999",
)


@examples(600)
@given(
    st.one_of(
        edited(), edited(), st.sampled_from([text.encode() for text in ODD]), st.text(max_size=30).map(str.encode)
    )
)
def test_yaml_values(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "x.yaml"
    path.write_bytes(content)
    try:
        build(Dataset, load_yaml(path), f"{path}")
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error), error
