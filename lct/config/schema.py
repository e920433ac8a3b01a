"""JSON schemas generated from the settings dataclasses, and one-line errors from their violations.

The dataclasses are the only home of keys, types and defaults; a field's trailing comment becomes its description.
"""

import dataclasses
import difflib
import functools
import inspect
import io
import tokenize
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import jsonschema

ID_PATTERN = "^[a-z0-9_-]+$"  # what may appear in a path or a rule's name
_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


@functools.cache
def field_comments(cls: type) -> dict[str, str]:
    """Field name -> its trailing comment (with continuation comment lines directly below it)."""
    comments: dict[str, str] = {}
    for base in cls.__bases__:
        comments |= field_comments(base) if dataclasses.is_dataclass(base) else {}
    return comments | _own_comments(cls)


def _own_comments(cls: type) -> dict[str, str]:
    comments: dict[str, str] = {}
    names = {f.name for f in dataclasses.fields(cls)}
    current = None
    tokens = list(tokenize.generate_tokens(io.StringIO(inspect.getsource(cls)).readline))
    for token in tokens:
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


def settings_type(annotation: Any, kind: str | None = None) -> type | None:
    """The settings dataclass an annotation stands for; of a tagged union, the one whose `kind` is given."""
    options = [a for a in _options(annotation) if dataclasses.is_dataclass(a)]
    if len(options) > 1:
        return next((a for a in options if _kind(a) == kind), None)
    return options[0] if options else None


def schema(cls: type, partial: bool = False, described: bool = True) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a settings dataclass; `partial` drops `required` everywhere, for one layer.
    Descriptions are read from the source, which takes most of the time."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_object(cls, partial, described)}


def check(values: dict[str, Any], cls: type, where: str, partial: bool = False) -> None:
    """Raise ValueError with one line (where, expected, found, what to do) if `values` does not fit `cls`."""
    errors = _validator(cls, partial).iter_errors(values)
    error = jsonschema.exceptions.best_match(errors)
    if error is not None:
        raise ValueError(f"{where}: {_explain(error)}")


@functools.cache
def _validator(cls: type, partial: bool) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema(cls, partial, described=False))


def build(cls: type, values: dict[str, Any], where: str) -> Any:
    """A settings dataclass from checked YAML values; what its own `__post_init__` refuses is given a place."""
    check(values, cls, where)
    return _build(cls, values, where)


def _build(annotation: Any, value: Any, where: str) -> Any:
    if isinstance(value, dict):
        cls = settings_type(annotation, value.get("kind"))
        if cls is None:
            inner = next((get_args(a)[1] for a in _options(annotation) if get_origin(a) is dict), Any)
            return {key: _build(inner, item, f"{where}.{key}") for key, item in value.items()}
        hints = get_type_hints(cls)
        arguments = {key: _build(hints[key], item, f"{where}: {key}") for key, item in value.items()}
        try:
            return cls(**arguments)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    if isinstance(value, list):
        inner = next((get_args(a)[0] for a in _options(annotation) if get_origin(a) is tuple), Any)
        return tuple(_build(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool) and float in _options(annotation):
        return value if int in _options(annotation) else float(value)
    return value


def plain(settings: Any) -> Any:
    """Settings as JSON-able values (dataclasses to dicts, tuples to lists)."""
    if dataclasses.is_dataclass(settings):
        return {f.name: plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    if isinstance(settings, dict):
        return {key: plain(value) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [plain(value) for value in settings]
    return settings


def did_you_mean(name: object, names: list[str]) -> str:
    """A hint with the nearest of `names`, for the end of a message; empty if none is near."""
    return f"did you mean {near[0]!r}? " if (near := difflib.get_close_matches(str(name), names, n=1)) else ""


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _kind(cls: type) -> str | None:
    return next((f.default for f in dataclasses.fields(cls) if f.name == "kind"), None)


def _object(cls: type, partial: bool, described: bool) -> dict[str, Any]:
    hints, comments = get_type_hints(cls), field_comments(cls) if described else {}
    properties, required = {}, []
    for f in dataclasses.fields(cls):
        if "partial" in f.metadata:  # overrides of another settings class
            entry = _object(f.metadata["partial"], True, described)
        elif "partials" in f.metadata:  # the same, by name
            overrides = _object(f.metadata["partials"], True, described)
            entry = {"type": "object", "propertyNames": {"pattern": ID_PATTERN}, "additionalProperties": overrides}
        else:
            entry = _entry(hints[f.name], partial, described)
        if f.metadata.get("names") == "any":  # keys that are names of others, such as files
            entry.pop("propertyNames")
        if f.name in comments:
            entry = {"description": comments[f.name], **entry}
        if f.default is not dataclasses.MISSING:
            entry["default"] = plain(f.default)
        elif f.default_factory is dataclasses.MISSING and not partial:
            required.append(f.name)
        properties[f.name] = entry
    made = {"type": "object", "title": cls.__name__, "additionalProperties": False, "properties": properties}
    return made | ({"required": required} if required else {})


def _entry(annotation: Any, partial: bool, described: bool) -> dict[str, Any]:
    options = _options(annotation)
    if len(options) > 1:
        classes = [a for a in options if dataclasses.is_dataclass(a)]
        rest = [_entry(a, partial, described) for a in options if not dataclasses.is_dataclass(a)]
        if len(classes) > 1 and not rest:  # tagged union
            return _tagged(classes, partial, described)
        if not classes and all(a in _PLAIN for a in options):
            return {"type": [_PLAIN[a] for a in options]}
        nested = [
            _tagged(classes, partial, described) if len(classes) > 1 else _entry(c, partial, described)
            for c in classes[:1]
        ]
        return {"anyOf": nested + rest}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if annotation is Any:
        return {}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        size = {} if Ellipsis in arguments else {"minItems": len(arguments), "maxItems": len(arguments)}
        return {"type": "array", "items": _entry(arguments[0], partial, described), **size}
    if origin is dict:
        return {
            "type": "object",
            "propertyNames": {"pattern": ID_PATTERN},
            "additionalProperties": _entry(arguments[1], partial, described),
        }
    if dataclasses.is_dataclass(annotation):
        return _object(typing.cast(type, annotation), partial, described)
    raise TypeError(f"settings cannot hold {annotation!r}; see the field types allowed in this module")


def _tagged(classes: list[type], partial: bool, described: bool) -> dict[str, Any]:
    kinds = [_kind(c) for c in classes]
    return {
        "type": "object",
        "properties": {"kind": {"enum": kinds}},
        "required": ["kind"],
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": _object(cls, partial, described),
            }
            for kind, cls in zip(kinds, classes, strict=True)
        ],
    }


def _explain(error: jsonschema.ValidationError) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{place}: " if place else ""
    found = error.instance
    if error.validator == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
        known = list(error.schema["properties"])
        unknown = sorted(set(found) - set(known), key=str)
        near = difflib.get_close_matches(str(unknown[0]), known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else "; remove it"
        return f"{prefix}unknown key {unknown[0]!r}, expected some of {known}{guess}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(found))
        return f"{prefix}expected key {missing[0]!r}, found only {sorted(found)}; add it"
    if error.validator == "type":
        hint = "; write it with a decimal point, such as 1.0e-4" if _looks_like_number(found) else "; fix the value"
        wanted = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        return f"{prefix}expected {wanted}, found {found!r} ({type(found).__name__}){hint}"
    if error.validator == "enum":
        near = difflib.get_close_matches(str(found), [str(v) for v in error.validator_value], n=1)
        guess = f"; did you mean {near[0]!r}?" if near else "; choose one of them"
        return f"{prefix}expected one of {error.validator_value}, found {found!r}{guess}"
    if error.validator in ("pattern", "propertyNames"):
        return f"{prefix}expected a name of a-z, 0-9, _ and - only, found {found!r}; rename it"
    return f"{prefix}{error.message}"


def _looks_like_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)
