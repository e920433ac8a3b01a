"""Settings built and checked by pydantic, with errors of one line, and JSON schemas of the same settings.

The dataclasses are the only home of keys, types and defaults; a field's trailing comment becomes its description.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import json
import tokenize
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, GetCoreSchemaHandler, StringConstraints, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from lct.checks import did_you_mean

ID_PATTERN = "^[a-z0-9_][a-z0-9_-]*$"  # what may appear in a path, a command or a rule's name
Name = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
_CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


# --- building ---------------------------------------------------------------------------------------------------------
def build(settings: Any, values: Any, where: str) -> Any:
    """Settings of a dataclass (or a union of some) from values as YAML and JSON hold them.

    Raises ValueError with one line that begins with `where`: the key, what was expected, what was found, what to do."""
    return _validated(_adapter(settings), values, where)


def check_layer(settings: type, values: dict[str, Any], where: str) -> None:
    """Like `build`, for values that give only some of the keys; checks between keys are left to `build`."""
    _validated(_adapter(_layer(settings)), values, where)


def plain(settings: Any) -> Any:
    """Settings as JSON-able values (dataclasses to dicts, tuples to lists). A field marked `optional` that keeps its
    default is left out: a new key then changes nothing in the settings of results that do without it."""
    if isinstance(settings, dict):
        return {key: plain(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [plain(value) for value in settings]
    if (fields := _fields(type(settings))) is None:
        return settings
    values = ((field, getattr(settings, field.name)) for field in fields)
    return {f.name: plain(value) for f, value in values if not (f.metadata.get("optional") and value == f.default)}


@functools.cache
def _fields(kind: type) -> tuple[dataclasses.Field, ...] | None:
    """Fields of a dataclass; None of any other type."""
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else None


@functools.cache
def _adapter(settings: Any) -> TypeAdapter:
    if dataclasses.is_dataclass(settings) or hasattr(settings, "__total__"):
        settings.__pydantic_config__ = _CONFIG  # pydantic's hook for classes that are not its own; nested ones inherit
        return TypeAdapter(settings)
    return TypeAdapter(settings, config=_CONFIG)


def _validated(adapter: TypeAdapter, values: Any, where: str) -> Any:
    try:
        text = json.dumps(values, default=repr)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: expected keys that are text, and plain values, found: {error}; fix them") from error
    try:
        return adapter.validate_json(text)  # strict JSON: lists are tuples, 1 is a float
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = min(errors, key=lambda e: e["type"] not in _UNKNOWN_KEY)  # a misspelt key explains a missing one
        raise ValueError(f"{where}: {_explain(first, values, adapter)}") from None


# --- values for some of the keys --------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Partial:
    """Annotation of a dictionary that holds values for some keys of a settings dataclass."""

    settings: type

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(_layer(self.settings))


@functools.cache
def _layer(annotation: Any) -> Any:
    """An annotation in which every settings dataclass is replaced by a TypedDict whose keys may all be missing."""
    if dataclasses.is_dataclass(annotation):
        fields = {name: _layer(hint) for name, hint in get_type_hints(annotation, include_extras=True).items()}
        layer = TypedDict(f"{annotation.__name__}Layer", fields, total=False)
        layer.settings = annotation
        return layer
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[_layer(arguments[0]), *arguments[1:]]
    if origin in (Union, types.UnionType):
        return Union[*map(_layer, arguments)]
    if origin in (tuple, dict):
        return origin[*map(_layer, arguments)]
    return annotation


# --- messages ---------------------------------------------------------------------------------------------------------
def _explain(error: Any, values: Any, adapter: TypeAdapter) -> str:
    """One line about an error of pydantic: the key, what was expected there, and what was found."""
    path, entry = _locate(error["loc"], values, _json_schema(adapter))
    kind, value = error["type"], error["input"]
    place = "".join(f"{part}." for part in path)[:-1]
    prefix = f"{place}: " if place else ""
    if kind in _UNKNOWN_KEY:
        names, key = list(entry.get("properties", {})), error["loc"][-1]
        return f"{prefix}unknown key {key!r}, expected some of {names}; {did_you_mean(key, names) or 'remove it'}"
    if kind in ("missing", "union_tag_not_found"):
        key = "kind" if kind == "union_tag_not_found" else error["loc"][-1]
        if isinstance(key, int):
            return f"{prefix}expected {entry['minItems']} items, found {value}; add the others"
        return f"{prefix}expected key {key!r}, found only {sorted(value)}; add it"
    if kind == "value_error":
        return f"{prefix}{error['ctx']['error']}"
    if kind in ("literal_error", "union_tag_invalid"):
        if kind == "union_tag_invalid":
            prefix, value = f"{prefix.removesuffix(': ')}.kind: ".lstrip("."), error["ctx"]["tag"]
            options = list(entry["discriminator"]["mapping"])
        else:
            members = entry.get("anyOf", [entry])
            options = [option for m in members for option in m.get("enum", [m["const"]] if "const" in m else [])]
        advice = did_you_mean(value, options) or "choose one of them"
        return f"{prefix}expected one of {options}, found {value!r}; {advice}"
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] == ID_PATTERN:
        return f"{prefix}expected a name of a-z, 0-9, _ and - only, no - in front, found {value!r}; rename it"
    if kind == "too_short":
        return f"{prefix}expected {error['ctx']['min_length']} or more items, found {value}; add the others"
    if kind == "too_long":
        return f"{prefix}expected {error['ctx']['max_length']} items, found {value}; remove the others"
    if kind.endswith("_type") or kind == "int_from_float":
        types = [e.get("type", "object") for e in entry.get("anyOf", [entry])]
        hint = "fix the value"
        with contextlib.suppress(ValueError):
            if isinstance(value, str | float):
                float(value)  # fails for a text that is no number
                decimal = "with a decimal point, such as 1.0e-4"
                hint = f"write it {decimal if 'number' in types else 'as a whole number, such as 1000'}, without quotes"
        return f"{prefix}expected {' or '.join(types)}, found {value!r} ({type(value).__name__}); {hint}"
    return f"{prefix}{error['msg'].replace('Input should be', 'expected')}, found {value!r}; fix the value"


@functools.cache
def _json_schema(adapter: TypeAdapter) -> dict[str, Any]:
    return adapter.json_schema()


def _locate(place: tuple[str | int, ...], values: Any, root: dict[str, Any]) -> tuple[list[str | int], dict[str, Any]]:
    """The keys of an error's place that lie on the way through `values` (pydantic adds names of union members), and the
    JSON schema there."""
    path: list[str | int] = []
    entry = _resolve(root, values, root)
    for part in place:
        inside = part in values if isinstance(values, dict) else isinstance(values, list) and isinstance(part, int)
        if not inside or (isinstance(part, int) and part >= len(values)):
            continue
        inner = entry.get("properties", {}).get(part)
        if inner is None and isinstance(values, dict):
            inner = entry.get("additionalProperties") or next(iter(entry.get("patternProperties", {}).values()), None)
        elif inner is None:
            inner = entry.get("items") or (entry.get("prefixItems") or [{}])[0]
        if not inner:  # an unknown key: its place is the mapping that holds it
            break
        values = values[part]
        path.append(part)
        entry = _resolve(inner, values, root)
    return path, entry


def _resolve(entry: dict[str, Any], values: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow references; of a union, the member that `values` belong to, as far as their `kind` and shape tell."""
    if "$ref" in entry:
        return _resolve(root["$defs"][entry["$ref"].removeprefix("#/$defs/")], values, root)
    kinds = entry.get("discriminator", {}).get("mapping", {})
    if isinstance(values, dict) and str(values.get("kind")) in kinds:
        return _resolve({"$ref": kinds[str(values["kind"])]}, values, root)
    shape = {dict: "object", list: "array"}.get(type(values))
    for member in (_resolve(member, values, root) for member in entry.get("anyOf", ()) if shape):
        if member.get("type") == shape or (shape == "object" and "discriminator" in member):
            return member
    return entry


# --- JSON schemas -----------------------------------------------------------------------------------------------------
def schema(settings: type) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the YAML files of a settings dataclass, every key with its description."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | _adapter(settings).json_schema(schema_generator=_DescribedSchema)


class _DescribedSchema(GenerateJsonSchema):
    """JSON schemas whose descriptions are the comments beside the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return _describe(super().dataclass_schema(schema), schema["cls"])

    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        return _describe(super().typed_dict_schema(schema), schema["cls"].settings)


def _describe(entry: dict[str, Any], settings: type) -> dict[str, Any]:
    comments = field_comments(settings)
    properties = entry.get("properties", {})
    return entry | {
        "properties": {
            key: {"description": comments[key], **value} if key in comments else value
            for key, value in properties.items()
        }
    }


@functools.cache
def field_comments(settings: type) -> dict[str, str]:
    """Field name -> its trailing comment (with continuation comment lines directly below it)."""
    classes = filter(dataclasses.is_dataclass, reversed(settings.__mro__))
    return {name: text for cls in classes for name, text in _own_comments(cls).items()}


def _own_comments(settings: type) -> dict[str, str]:
    comments: dict[str, str] = {}
    names = {f.name for f in dataclasses.fields(settings)}
    current = None
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(settings)).readline):
        if token.type == tokenize.NAME and token.string in names and token.line.lstrip().startswith(f"{token.string}:"):
            current = token.string
        elif token.type == tokenize.COMMENT and current:
            alone = token.line.lstrip().startswith("#")
            text = token.string.lstrip("#").strip()
            if not alone and current not in comments:
                comments[current] = text
            elif alone and current in comments:
                comments[current] += " " + text
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT) and current in comments:
            current = None
    return comments
