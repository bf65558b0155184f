"""A connection's file after migrations, as its people would have written it: order, comments and quotes stay.

The YAML library hangs what stands between two keys on the former; where that one goes, what stood behind it stays. What
comes out is read again, and says exactly what `migrate` says, or nothing is rewritten.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken
from ruamel.yaml.util import load_yaml_guess_indent

from wellhead import documents
from wellhead.errors import Code, ConfigurationError
from wellhead.manifest.migrate import apply, written
from wellhead.manifest.model import Migration

NOT_REWRITTEN = Code("WH-MAN-132", "A file cannot be rewritten for another version of its config.")


def rewrite(document: documents.Document, steps: Sequence[Migration], version: int) -> str:
    """Return a connection's file with its config migrated and ``config_version`` set.

    Args:
        document: the file as it was read.
        steps: the migrations, in order.
        version: the version of the config after them.

    Raises:
        ConfigurationError: a migration does not fit (WH-MAN-131), or the YAML is of a form that cannot be rewritten so
            that it says the same (WH-MAN-132), such as one whose config is put together from aliases.
    """
    wanted = {**document.data, "config_version": version}
    values = copy.deepcopy(document.data.get("config")) or {}
    for step in steps:
        list(apply(values, step))
    if values or "config" in document.data:
        wanted["config"] = values
    made = _written(document.content.decode("utf-8-sig"), steps, version)
    if documents.parse(made.encode(), document.file).data != wanted:
        raise ConfigurationError(
            f"{document.file} is written in a way in which its config cannot be rewritten for version {version}",
            code=NOT_REWRITTEN,
            hint=f"change config by hand and say config_version: {version}; `wellhead explain` says what has to change",
            place=document.place(("config",)),
        )
    return made


def _written(text: str, steps: Sequence[Migration], version: int) -> str:
    yaml, out = YAML(), io.StringIO()
    yaml.preserve_quotes = True
    # A long line is as long as its people made it.
    yaml.width = 4096
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    tree, _, dashes = load_yaml_guess_indent(text, yaml=yaml)
    config = tree.get("config")
    if not isinstance(config, CommentedMap):
        config = CommentedMap()
    indent = max(config.lc.col or 0, 2)
    for step in steps:
        _migrate(config, step)
    if config and "config" not in tree:
        _append(tree, "config", config)
    if "config_version" in tree:
        tree["config_version"] = version
    else:
        place = list(tree).index("config") if "config" in tree else len(tree)
        tree.insert(place, "config_version", version)
    yaml.indent(mapping=indent, sequence=(dashes or 0) + 2, offset=dashes or 0)
    yaml.dump(tree, out)
    return out.getvalue()


def _migrate(config: CommentedMap, step: Migration) -> None:
    moved = []
    for old, new in step.rename.items():
        if old.rpartition(".")[0] != new.rpartition(".")[0]:
            moved += [(new, *found) for found in _detach(config, old)]
    _rename(config, step)
    for new, value, comment in moved:
        _put(config, new, value, comment)
    for name, pairs in step.map.items():
        for parent, last in _found(config, name):
            mapped = next((pair for pair in pairs if written(pair.from_) == written(parent[last])), None)
            if mapped is not None:
                behind = _take_behind(parent, last)
                parent[last] = _commented(mapped.to)
                _give_behind(parent, last, behind)
    for name in step.remove:
        _detach(config, name)
    for name, value in step.set.items():
        if not list(_found(config, name)):
            _put(config, name, _commented(value))


def _rename(config: CommentedMap, step: Migration) -> None:
    """Give parameters other names where they stand, with all that is written about them."""
    objects: dict[str, dict[str, str]] = {}
    for old, new in step.rename.items():
        above, _, last = old.rpartition(".")
        if above == new.rpartition(".")[0]:
            objects.setdefault(above, {})[last] = new.rpartition(".")[2]
    for above, names in objects.items():
        parents = [config] if not above else [parent[last] for parent, last in _found(config, above)]
        for parent in parents:
            if not isinstance(parent, CommentedMap) or names.keys().isdisjoint(parent):
                continue
            items = [(key, parent[key], parent.ca.items.pop(key, None)) for key in list(parent)]
            for key, _, _ in items:
                del parent[key]
            for key, value, comment in items:
                parent[names.get(key, key)] = value
                if comment is not None:
                    parent.ca.items[names.get(key, key)] = comment


def _found(config: CommentedMap, name: str) -> Iterator[tuple[CommentedMap, str]]:
    *above, last = name.split(".")
    at: Any = config
    for part in above:
        at = at.get(part) if isinstance(at, CommentedMap) else None
    if isinstance(at, CommentedMap) and last in at:
        yield at, last


def _put(config: CommentedMap, name: str, value: Any, comment: Any = None) -> None:
    """Put a parameter last in its object, which is made where there is none."""
    first, *inside = name.split(".")
    if isinstance(config.get(first), CommentedMap) and inside:
        _put(config[first], ".".join(inside), value, comment)
        return
    for part in reversed(inside):
        value = CommentedMap({part: value})
        if comment is not None:
            value.ca.items[part], comment = comment, None
    _append(config, first, value, comment)


def _commented(value: Any) -> Any:
    """Return a plain value in the library's own kinds, on which comments can hang."""
    match value:
        case dict():
            return CommentedMap({name: _commented(inner) for name, inner in value.items()})
        case list():
            return CommentedSeq([_commented(inner) for inner in value])
        case _:
            return value


def _detach(config: CommentedMap, name: str) -> list[tuple[Any, Any]]:
    """Take a parameter out, and each object that is empty without it; return its value and what stands on its line."""
    taken, above = [], name.rpartition(".")[0]
    for parent, last in list(_found(config, name)):
        behind, keys = _take_behind(parent, last), list(parent)
        place = keys.index(last)
        comment = parent.ca.items.pop(last, None)
        taken.append((parent.pop(last), comment))
        if place:
            _give_behind(parent, keys[place - 1], behind)
        elif len(keys) > 1 and behind.strip():
            parent.yaml_set_comment_before_after_key(keys[1], before=_bare(behind), indent=parent.lc.col)
        for holder, key in list(_found(config, above)) if len(keys) == 1 and above else ():
            _give_behind(holder, key, behind)
            _detach(config, above)
    return taken


def _bare(comment: str) -> str:
    return "\n".join(line.strip().removeprefix("#").strip() for line in comment.strip("\n").splitlines())


def _append(parent: CommentedMap, name: str, value: Any, comment: Any = None) -> None:
    """Put a parameter last, before what stands behind the object."""
    keys = list(parent)
    behind = _take_behind(parent, keys[-1]) if keys else ""
    parent[name] = value
    if comment is not None:
        parent.ca.items[name] = comment
    _give_behind(parent, name, behind)


# ---- what stands behind a value, from the next line on


def _leaf(node: Any, key: Any) -> tuple[Any, Any]:
    """Return where the library hangs what stands behind a value: at the last value within it."""
    inner = node[key]
    if isinstance(inner, CommentedMap | CommentedSeq) and inner and not inner.fa.flow_style():
        return _leaf(inner, list(inner)[-1] if isinstance(inner, CommentedMap) else len(inner) - 1)
    return node, key


def _slot(node: Any) -> int:
    return 2 if isinstance(node, CommentedMap) else 0


def _take_behind(node: Any, key: Any) -> str:
    leaf, last = _leaf(node, key)
    comments = leaf.ca.items.get(last)
    token = None if comments is None else comments[_slot(leaf)]
    if token is None:
        return ""
    line, _, behind = token.value.partition("\n")
    comments[_slot(leaf)] = CommentToken(line + "\n", token.start_mark, None) if line.strip() else None
    return str(behind)


def _give_behind(node: Any, key: Any, behind: str) -> None:
    if not behind:
        return
    leaf, last = _leaf(node, key)
    comments = leaf.ca.items.setdefault(last, [None, None, None, None])
    token = comments[_slot(leaf)]
    if token is None:
        comments[_slot(leaf)] = CommentToken("\n" + behind, CommentMark(0), None)
    else:
        comments[_slot(leaf)] = CommentToken(token.value.rstrip("\n") + "\n" + behind, token.start_mark, None)
