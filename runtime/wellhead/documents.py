"""YAML documents as values with places: the one way a file written by a person enters the program.

YAML 1.2, so that ``on`` and ``NO`` stay text; duplicate keys are refused; every mistake names file, line and field, and
all mistakes of a file are told at once.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from wellhead.errors import Code, ConfigurationError, Place, counted

UNREADABLE = Code("WH-DOC-001", "A file cannot be read.")
NOT_YAML = Code("WH-DOC-002", "A file is not valid YAML.")
INVALID = Code("WH-DOC-003", "A file does not say what it must say.")
TOO_LARGE = Code("WH-DOC-004", "A file is larger than any document of its kind may be.")

#: Far above any manifest, far below what would hurt the parser.
MAX_BYTES = 2 * 1024 * 1024
#: Aliases multiply; a document of people needs few.
MAX_NODES = 200_000

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: plain dicts, lists and scalars, and where each field stands."""

    file: str
    data: Any
    lines: Mapping[tuple[str | int, ...], int]

    def place(self, path: tuple[str | int, ...]) -> Place:
        """Return where ``path`` stands, or the nearest parent that is in the file."""
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        return Place(self.file, self.lines.get(at), ".".join(str(part) for part in path) or None)


def read(path: Path) -> Document:
    """Read and parse one file.

    Raises:
        ConfigurationError: it cannot be read (WH-DOC-001), is too large (WH-DOC-004) or is not YAML (WH-DOC-002).
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(
            f"cannot read {path}: {exc.strerror}",
            code=UNREADABLE,
            hint="check the path and its permissions",
            place=Place(str(path)),
        ) from exc
    return parse(content, str(path))


def parse(content: bytes, file: str) -> Document:
    """Parse bytes that came from ``file``; raises like `read`."""
    if len(content) > MAX_BYTES:
        raise ConfigurationError(
            f"{file} has {len(content)} bytes, more than the {MAX_BYTES} allowed",
            code=TOO_LARGE,
            hint="split the document",
            place=Place(file),
        )
    try:
        tree = YAML(typ="rt", pure=True).load(io.StringIO(content.decode("utf-8-sig")))
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{file} is not UTF-8 text", code=NOT_YAML, hint="save it as UTF-8", place=Place(file)
        ) from exc
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise ConfigurationError(
            f"{file} is not valid YAML: {exc.problem or exc.context}",
            code=NOT_YAML,
            hint="mend the syntax at the line named; indentation uses spaces",
            place=Place(file, mark.line + 1 if mark else None),
        ) from exc
    except (YAMLError, ValueError, RecursionError) as exc:
        raise ConfigurationError(
            f"{file} is not valid YAML: {exc}", code=NOT_YAML, hint="mend the syntax", place=Place(file)
        ) from exc
    lines: dict[tuple[str | int, ...], int] = {}
    budget = [MAX_NODES]
    data = _plain(tree, (), lines, budget, file)
    return Document(file, data, lines)


def _plain(
    node: Any, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], budget: list[int], file: str
) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise ConfigurationError(
            f"{file} expands to more than {MAX_NODES} values",
            code=TOO_LARGE,
            hint="remove the nested aliases",
            place=Place(file),
        )
    if isinstance(node, CommentedMap):
        plain: dict[str, Any] = {}
        for key, value in node.items():
            here = (*path, str(key))
            lines[here] = node.lc.key(key)[0] + 1 if key in (node.lc.data or {}) else lines.get(path, 1)
            plain[str(key)] = _plain(value, here, lines, budget, file)
        return plain
    if isinstance(node, CommentedSeq):
        items = []
        for index, value in enumerate(node):
            here = (*path, index)
            lines[here] = node.lc.item(index)[0] + 1 if index in (node.lc.data or {}) else lines.get(path, 1)
            items.append(_plain(value, here, lines, budget, file))
        return items
    match node:
        case None | bool():
            return node
        case int():
            return int(node)
        case float():
            return float(node)
        case str():
            return str(node)
        case _:
            # A bare date or timestamp: documents carry text, and the model parses it where it wants a time.
            return node.isoformat() if hasattr(node, "isoformat") else str(node)


def validate(model: type[Model], document: Document, data: Any = None) -> Model:
    """Turn a document into a model.

    Args:
        model: what it should be.
        document: where it came from, for places.
        data: what to validate where it differs from ``document.data``, say after substitution.

    Raises:
        ConfigurationError: WH-DOC-003, with the first mistake as message and place and all of them as details.
    """
    try:
        return model.model_validate(document.data if data is None else data)
    except ValidationError as exc:
        mistakes = [(document.place(tuple(error["loc"])), _sentence(error, model)) for error in exc.errors()]
        details = tuple(f"{place}: {text}" for place, text in mistakes)
        place, text = mistakes[0]
        count = f"{counted(len(mistakes), 'mistake')}, the first: " if len(mistakes) > 1 else ""
        raise ConfigurationError(
            f"{document.file} is not a valid {model.__name__}: {count}{text}",
            code=INVALID,
            hint="mend the fields named" if len(mistakes) > 1 else "mend the field named",
            place=place,
            details=details,
        ) from None


def _sentence(error: Any, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "the document"
    match error["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(error["loc"][-1]), _keys(model, error["loc"][:-1]), n=1)
            return f"{field} is not a known key" + (f"; did you mean {near[0]!r}?" if near else "")
        case "missing":
            return f"{field} is missing"
        case "value_error" | "assertion_error":
            return f"{field}: {error['msg'].removeprefix('Value error, ').removeprefix('Assertion failed, ')}"
        case _:
            return f"{field}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Return the keys a document may have at ``path``; none where no single model decides."""
    for part in path:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = _models(model.model_fields[part].annotation)
        if len(inner) != 1:
            return []
        model = inner[0]
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
