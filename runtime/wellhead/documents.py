"""YAML documents as values with places: the one way a file written by a person enters the program.

YAML 1.2, so that ``on`` and ``NO`` stay text; duplicate keys are refused; every mistake names file, line and field, and
all mistakes of a file are told at once.
"""

from __future__ import annotations

import difflib
import io
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode

from wellhead.errors import Code, ConfigurationError, Place, counted

UNREADABLE = Code("WH-DOC-001", "A file or folder cannot be read.")
NOT_YAML = Code("WH-DOC-002", "A file is not valid YAML.")
INVALID = Code("WH-DOC-003", "A file does not say what it must say.")
TOO_LARGE = Code("WH-DOC-004", "A file is larger than any document of its kind may be.")

TOO_DEEP = Code("WH-DOC-005", "The values of a file stand too deeply in each other, or one in itself.")
NO_FOLDER = Code("WH-DOC-006", "A folder of documents is not there.")
MISNAMED = Code("WH-DOC-007", "A document has a name by which it would not be read.")

#: Far above any manifest, far below what would hurt the parser.
MAX_BYTES = 2 * 1024 * 1024
#: Aliases multiply; a document of people needs few.
MAX_NODES = 200_000
#: Several times what a config schema of people nests; whatever goes through the values afterwards gets by with it.
MAX_DEPTH = 100

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its bytes, what they say as plain dicts, lists and scalars, and where each field stands."""

    file: str
    content: bytes
    data: Any
    lines: Mapping[tuple[str | int, ...], int]
    variables: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)
    """What does not stand in the file at all, and the environment variable that says it."""

    def place(self, path: tuple[str | int, ...]) -> Place:
        """Return where ``path`` stands, or the nearest parent that is in the file."""
        name = ".".join(str(part) for part in path) or None
        if self.variable(path) is not None:
            return Place(None, None, name)
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        return Place(self.file, self.lines.get(at), name)

    def variable(self, path: tuple[str | int, ...]) -> str | None:
        """Return the variable that says ``path``; None where the file does."""
        while path not in self.variables:
            if path in self.lines or not path:
                return None
            path = path[:-1]
        return self.variables[path]


def read(path: Path) -> Document:
    """Read and parse one file.

    Raises:
        ConfigurationError: it cannot be read or is no file (WH-DOC-001), is too large (WH-DOC-004), nests too deeply
            (WH-DOC-005) or is not YAML (WH-DOC-002).
    """
    try:
        # Who waits for the other end of a pipe to be opened cannot be told that it is none of a document's.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            # A device may never end, and what a pipe gave is gone for who reads the document next.
            if not stat.S_ISREG(mode):
                raise _unreadable(path, "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")
            content = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise _unreadable(path, exc.strerror) from exc
    return parse(content, str(path))


def listed(folder: Path, *, may_lack: bool = False) -> list[Path]:
    """Return the documents of a folder, ``*.yaml``, by name.

    What a folder holds decides what is allowed and what is kept: one that cannot be looked into is not an empty one.

    Args:
        folder: where they are.
        may_lack: a folder that is not there holds none.

    Raises:
        ConfigurationError: it is not there (WH-DOC-006), cannot be read or is no folder (WH-DOC-001), or holds a
            document under a name by which nobody would read it (WH-DOC-007).
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except FileNotFoundError as exc:
        # A link that leads nowhere is there, like the folder it was made for.
        if may_lack and _nearest(folder).exists():
            return []
        raise ConfigurationError(
            f"there is no folder {folder}",
            code=NO_FOLDER,
            hint="mend the path or the setting that names it, or make the folder: an empty one says that it holds none",
            place=Place(str(folder)),
        ) from exc
    except OSError as exc:
        raise _unreadable(folder, exc.strerror) from exc
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in (".yml", ".yaml") and suffix != ".yaml":
            raise ConfigurationError(
                f"{folder / name} would not be read: documents here end in .yaml",
                code=MISNAMED,
                hint=f"rename it to {stem}.yaml, or move it elsewhere",
                place=Place(str(folder / name)),
            )
    return [folder / name for name in names if name.endswith(".yaml")]


def _nearest(folder: Path) -> Path:
    """Return ``folder``, or the nearest above it that is there."""
    return next(each for each in (folder, *folder.parents) if os.path.lexists(each))


def _unreadable(path: Path, why: str | None) -> ConfigurationError:
    return ConfigurationError(
        f"cannot read {path}: {why}",
        code=UNREADABLE,
        hint="check the path and its permissions",
        place=Place(str(path)),
    )


def parse(content: bytes, file: str) -> Document:
    """Parse bytes that came from ``file``; raises like `read`."""
    if len(content) > MAX_BYTES:
        raise ConfigurationError(
            f"{file} has more than the {MAX_BYTES} bytes allowed",
            code=TOO_LARGE,
            hint="split the document",
            place=Place(file),
        )
    try:
        yaml = YAML(typ="rt", pure=True)
        yaml.Composer = _Composer
        tree = yaml.load(io.StringIO(content.decode("utf-8-sig")))
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{file} is not UTF-8 text", code=NOT_YAML, hint="save it as UTF-8", place=Place(file)
        ) from exc
    except _EndlessError as exc:
        raise ConfigurationError(
            f"{file} has an alias of what it stands in, which has no end",
            code=TOO_DEEP,
            hint="write out what is meant there",
            place=Place(file, exc.problem_mark.line + 1),
        ) from None
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise ConfigurationError(
            f"{file} is not valid YAML: {exc.problem or exc.context}",
            code=NOT_YAML,
            hint="mend the syntax at the line named; indentation uses spaces",
            place=Place(file, mark.line + 1 if mark else None),
        ) from exc
    except RecursionError:
        # The parser's own end; its trace would be a thousand times the same line.
        raise _too_deep(file, None) from None
    except (YAMLError, ValueError) as exc:
        raise ConfigurationError(
            f"{file} is not valid YAML: {exc}", code=NOT_YAML, hint="mend the syntax", place=Place(file)
        ) from exc
    plain = _Plain(file)
    return Document(file, content, plain.of(tree, ()), plain.lines)


class _EndlessError(ComposerError):
    """A value that stands in itself."""


class _Composer(Composer):
    """Refuses what the library's own reads as nothing, or as a value without end: an alias in what it stands for."""

    def return_alias(self, a: Any) -> Any:
        # Where a list or mapping ends is noted when its last value is there.
        if isinstance(a, CollectionNode) and a.end_mark is None:
            raise _EndlessError(None, None, "an alias of what it stands in", a.start_mark)
        return super().return_alias(a)


class _Plain:
    """Turns a parsed tree into plain values, within bounds that aliases cannot get around."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[tuple[str | int, ...], int] = {}
        self._left = MAX_NODES

    def of(self, node: Any, path: tuple[str | int, ...]) -> Any:
        """Return the value of a node, noting where each part of it stands."""
        self._left -= 1
        if self._left < 0:
            raise ConfigurationError(
                f"{self.file} expands to more than {MAX_NODES} values",
                code=TOO_LARGE,
                hint="remove the nested aliases",
                place=Place(self.file),
            )
        if isinstance(node, CommentedMap | CommentedSeq) and len(path) >= MAX_DEPTH:
            raise _too_deep(self.file, self.lines.get(path))
        if isinstance(node, CommentedMap):
            plain: dict[str, Any] = {}
            for key, value in node.items():
                here = (*path, str(key))
                self.lines[here] = node.lc.key(key)[0] + 1 if key in (node.lc.data or {}) else self.lines.get(path, 1)
                plain[str(key)] = self.of(value, here)
            return plain
        if isinstance(node, CommentedSeq):
            items = []
            for index, value in enumerate(node):
                here = (*path, index)
                self.lines[here] = (
                    node.lc.item(index)[0] + 1 if index in (node.lc.data or {}) else self.lines.get(path, 1)
                )
                items.append(self.of(value, here))
            return items
        return _scalar(node)


def _too_deep(file: str, line: int | None) -> ConfigurationError:
    return ConfigurationError(
        f"{file} nests its values more than {MAX_DEPTH} levels deep",
        code=TOO_DEEP,
        hint="flatten the document",
        place=Place(file, line),
    )


def _scalar(node: Any) -> Any:
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
        errors = _own(exc.errors())
        mistakes = [(document.place(tuple(error["loc"])), _sentence(error, model, document)) for error in errors]
        details = tuple(f"{place}: {text}" for place, text in mistakes)
        place, text = mistakes[0]
        count = f"{counted(len(mistakes), 'mistake')}, the first: " if len(mistakes) > 1 else ""
        whose = document.file if document.variable(tuple(errors[0]["loc"])) is None else "the environment"
        raise ConfigurationError(
            f"{whose} is not a valid {model.__name__}: {count}{text}",
            code=INVALID,
            hint="mend the fields named" if len(mistakes) > 1 else "mend the field named",
            place=place,
            details=details,
        ) from None


def _own(errors: Sequence[Any]) -> list[Any]:
    """Leave out the lists that are too short only because an item of theirs is wrong, and was not counted."""
    wrong = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(len(loc) > len(error["loc"]) and loc[: len(error["loc"])] == error["loc"] for loc in wrong)
    ]


def _sentence(error: Any, model: type[BaseModel], document: Document) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "the document"
    if (variable := document.variable(tuple(error["loc"]))) is not None:
        field = f"the variable {variable}: {field}"
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
