"""A connection's config against the manifest's schema: defaults filled, types normal, every mistake told at once."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from wellhead import addresses
from wellhead.errors import Code, ConfigurationError, Place, counted
from wellhead.manifest.model import Manifest

INVALID_CONFIG = Code("WH-MAN-110", "A connection's config is not what the connector asks for.")

_TRUE = {"true": True, "false": False}
_INTEGER = re.compile(r"[+-]?\d{1,40}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_YAML_TAGS = "tag:yaml.org,2002:"
#: How far references and choices within a schema are followed; those of a schema that means itself have no end.
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class ConfigMistake:
    """One parameter that is missing, unknown or ill-typed; ``field`` is dotted, ``message`` a clause about it."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """The config as the connector will get it, and what is wrong with it; use ``values`` only without mistakes."""

    values: dict[str, Any]
    mistakes: tuple[ConfigMistake, ...]


def config_errors(manifest: Manifest, config: Mapping[str, Any]) -> CheckedConfig:
    """Fill defaults, normalise types and report every missing, unknown or ill-typed parameter at once.

    Normalised are texts that plainly are what the schema asks for (``"5432"`` → 5432, ``"true"`` → True, ``1`` → 1.0)
    and numbers where it asks for text (``2024`` → ``"2024"``); nothing is guessed beyond that.
    """
    # Imported here: 60 ms that `wellhead --help` need not spend.
    import jsonschema

    schema = manifest.config.schema_
    values = _normal(copy.deepcopy(dict(config)), schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=_formats())
    mistakes = [mistake for error in validator.iter_errors(values) for mistake in _mistakes(error)]
    return CheckedConfig(values, tuple(sorted(set(mistakes), key=lambda mistake: (mistake.field, mistake.message))))


def checked(manifest: Manifest, config: Mapping[str, Any], file: str | None = None) -> dict[str, Any]:
    """Return the config with defaults and normal types.

    Raises:
        ConfigurationError: WH-MAN-110, with every mistake among the details.
    """
    result = config_errors(manifest, config)
    if result.mistakes:
        first = result.mistakes[0]
        more = f" ({counted(len(result.mistakes), 'mistake')} in all)" if len(result.mistakes) > 1 else ""
        raise ConfigurationError(
            f"config.{first.field} {first.message}{more}",
            code=INVALID_CONFIG,
            hint=f"mend config as {manifest.metadata.id} {manifest.metadata.version} asks",
            place=Place(file, field=f"config.{first.field}"),
            details=tuple(f"config.{mistake.field} {mistake.message}" for mistake in result.mistakes),
        )
    return result.values


def worded(manifest: Manifest, words: Mapping[str, str]) -> dict[str, Any]:
    """Return a config that was given in words, such as on a command line, by parameter.

    Where the schema takes text, a word stays as it was typed: ``007`` and ``1.10`` are no numbers there. Numbers,
    booleans, null, lists and objects (as JSON, or as YAML has them) are read where it asks for them. Where it asks for
    nothing in particular, a number is only what reads back as it was typed, and a list or an object only JSON. What
    cannot be read stays text, and `config_errors` says what was asked for.
    """
    schema = manifest.config.schema_
    return {name: _worded(text, _places([schema], name, schema), schema) for name, text in words.items()}


def _worded(text: str, places: list[Any], root: Any) -> Any:
    kinds = {kind for place in places for kind in _kinds(place)}
    if "string" in kinds or any(text in place.get("enum", ()) or text == place.get("const") for place in places):
        return text
    if not kinds:
        return _unasked(text)
    if "null" in kinds and text == "null":
        return None
    read = _from_text(text, kinds)
    if not isinstance(read, str) or not kinds & {"array", "object"}:
        return read
    try:
        return _of_node(YAML(pure=True).compose(text), places, root)
    except (YAMLError, ValueError, RecursionError):
        return text


def _unasked(text: str) -> Any:
    try:
        value = json.loads(text)
        if isinstance(value, list | dict):
            return _of_node(YAML(pure=True).compose(text), [], None)
        return text if isinstance(value, str) or json.dumps(value, allow_nan=False) != text else value
    except (YAMLError, ValueError, RecursionError):
        return text


def _of_node(node: Any, places: list[Any], root: Any) -> Any:
    """Return what a node of YAML says, each scalar read by the schema of its own place.

    Raises:
        ValueError: a tag of somebody's own, or a key that is there twice or is no text.
    """
    match node:
        case ScalarNode() if str(node.tag).startswith(_YAML_TAGS):
            return node.value if node.style else _worded(node.value, places, root)
        case SequenceNode():
            items = _places(places, None, root)
            return [_of_node(item, items, root) for item in node.value]
        case MappingNode() if all(isinstance(key, ScalarNode) for key, _ in node.value):
            pairs = {key.value: _of_node(value, _places(places, key.value, root), root) for key, value in node.value}
            if len(pairs) == len(node.value):
                return pairs
    raise ValueError("this is more than a value")


def _kinds(schema: Any) -> set[str]:
    wanted = schema.get("type")
    return {wanted} if isinstance(wanted, str) else set(wanted or ())


def _places(schemas: Iterable[Any], name: str | None, root: Any) -> list[Any]:
    """Return the schemas of a property of what ``schemas`` speak of, or of its items where ``name`` is None."""
    found = []
    # A schema that several refer to counts once: where one means itself they would multiply at every level.
    for part in _once(schemas, root):
        if name is None:
            found.append(part.get("items"))
        else:
            found.append(part.get("properties", {}).get(name, part.get("additionalProperties")))
    return _once(found, root)


def _once(schemas: Iterable[Any], root: Any) -> list[Any]:
    return list({id(part): part for schema in schemas for part in _parts(schema, root, 0)}.values())


def _parts(schema: Any, root: Any, depth: int) -> Iterator[Any]:
    """Yield a schema with those it refers to and chooses among."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return
    yield schema
    for rule in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(rule, ()):
            yield from _parts(part, root, depth + 1)
    if str(schema.get("$ref", "")).startswith("#/"):
        found = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found.get(step) if isinstance(found, dict) else None
        yield from _parts(found, root, depth + 1)


def _normal(value: Any, schema: Any) -> Any:
    if not isinstance(schema, dict):
        return value
    kinds = _kinds(schema)
    match value:
        case dict() if "properties" in schema:
            for name, inner in schema["properties"].items():
                if name in value:
                    value[name] = _normal(value[name], inner)
                elif isinstance(inner, dict) and "default" in inner:
                    value[name] = copy.deepcopy(inner["default"])
            return value
        case list() if "items" in schema:
            return [_normal(item, schema["items"]) for item in value]
        case str() if kinds and "string" not in kinds:
            return _from_text(value, kinds)
        case bool() | None:
            return value
        case int() | float() if kinds == {"string"}:
            return str(value)
        case int() if kinds == {"number"}:
            return float(value)
        case float() if "integer" in kinds and "number" not in kinds and value.is_integer():
            return int(value)
        case _:
            return value


def _from_text(text: str, kinds: set[str]) -> Any:
    stripped = text.strip()
    if "boolean" in kinds and stripped.lower() in _TRUE:
        return _TRUE[stripped.lower()]
    if "integer" in kinds and _INTEGER.fullmatch(stripped):
        return int(stripped)
    if "number" in kinds and _NUMBER.fullmatch(stripped) and math.isfinite(float(stripped)):
        return float(stripped)
    return text


def _formats() -> Any:
    import jsonschema

    formats = jsonschema.FormatChecker(("date", "email", "regex", "uuid"))

    @formats.checks("uri")  # type: ignore[untyped-decorator]
    def _is_uri(value: object) -> bool:
        if not isinstance(value, str):
            return True
        parts = addresses.split(value)
        return parts is not None and bool(parts.scheme) and not re.search(r"\s", value)

    @formats.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]
    def _is_date_time(value: object) -> bool:
        return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None

    return formats


def _mistakes(error: Any) -> Iterator[ConfigMistake]:
    at = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{at}." if at else ""
    match error.validator:
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            yield from (ConfigMistake(f"{prefix}{name}", "is missing") for name in missing)
        case "additionalProperties" if error.validator_value is False:
            known = sorted(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - set(known)):
                yield ConfigMistake(
                    f"{prefix}{name}", f"is not a known parameter (known: {', '.join(known) or 'none'})"
                )
        case "type":
            wanted = error.validator_value
            kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
            yield ConfigMistake(at or "config", f"must be of type {kinds}, and is {_kind(error.instance)}")
        case "enum":
            allowed = ", ".join(str(value) for value in error.validator_value)
            yield ConfigMistake(at, f"must be one of {allowed}")
        case "format":
            yield ConfigMistake(at, f"is not a valid {error.validator_value}")
        case "pattern":
            yield ConfigMistake(at, f"does not match {error.validator_value}")
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" | "minLength" | "maxLength":
            yield ConfigMistake(at, f"breaks the bound {error.validator} {error.validator_value}")
        case _:
            yield ConfigMistake(at or "config", f"breaks the rule {error.validator}")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
