"""workflow/schemas: every YAML file under config/ names its schema, and the schema describes the file."""

import importlib.util
import json
import random

import jsonschema
import pytest

from lct.config.folder import load_yaml
from lct.config.schema import build, plain
from tests.helpers import ROOT

_spec = importlib.util.spec_from_file_location("render", ROOT / "workflow" / "schemas" / "render.py")
render = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(render)
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "config").rglob("*.yaml") if path.name != "recorded.yaml")


def kind_of(path):
    """Name of the schema of a file, and the settings that it describes."""
    return next((name, cls) for name, (pattern, cls) in render.SCHEMAS.items() if path.match(pattern))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_names_the_schema_that_describes_it(path):
    first = (ROOT / path).read_text().splitlines()[0]
    schema_path = ((ROOT / path).parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
    assert schema_path == ROOT / "workflow" / "schemas" / f"{kind_of(path)[0]}.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema_path.read_text()))
    validator.check_schema(validator.schema)
    values = load_yaml(ROOT / path)
    assert list(validator.iter_errors(values)) == []
    unknown = values | ({"bad": {"nonsense": 1}} if kind_of(path)[0] == "run" else {"nonsense": 1})
    assert list(validator.iter_errors(unknown))


def places(values, path=()):
    """Paths of all values inside nested ones."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_damaged_values_end_in_one_line_that_names_the_file(path):
    rng, (_, settings), text = random.Random(str(path)), kind_of(path), json.dumps(load_yaml(ROOT / path))
    for _ in range(3):
        values = json.loads(text)
        *outer, key = rng.choice(list(places(values)))
        holder = values
        for part in outer:
            holder = holder[part]
        holder[key] = rng.choice([3, 1.5, "x", "1e-4", True, None, [], {}, [1, "a"], {"kind": "zzz"}, {"a": 1}, -1])
        try:
            build(settings, values, str(path))
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_settings_are_built_again_from_what_they_are_written_as():
    for path in FILES:
        name, settings = kind_of(path)
        if name != "run":
            built = build(settings, load_yaml(ROOT / path), str(path))
            assert build(settings, json.loads(json.dumps(plain(built))), "again") == built
