"""SHA-256 of many short values at once.

hashlib is called once a value and holds the interpreter's lock all the while: half a microsecond a row, in which no
other thread of the run gets on. polars-hash does a whole column in one call, without the lock and in half the time.
Importing polars for it would cost 0.3 s and 70 MiB, and none of it is needed: the column is handed to the plugin as
Arrow's C data, by the calling convention polars has for plugins.

    caller ── ArrowArray ──▶ SeriesExport ──▶ _polars_plugin_sha2_256 ──▶ SeriesExport ── ArrowArray ──▶ 64 hex digits

Source of the convention: the crate polars-ffi, module version_0.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import sys
import threading
from ctypes import POINTER, byref, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

HEX_DIGITS = 64
#: Fewer values than this are hashed before the plugin is even loaded.
MANY = 1024

#: Sizes of Arrow's C structures (arrow.apache.org, C data interface).
_SCHEMA_BYTES, _ARRAY_BYTES = 72, 80
_VERSION = (0, 1)

Digits = np.ndarray[Any, np.dtype[np.uint8]]


class _Series(ctypes.Structure):
    """polars-ffi's SeriesExport; who receives one calls ``release``, which leaves the arrays alone."""

    _fields_ = (
        ("field", c_void_p),
        ("arrays", POINTER(c_void_p)),
        ("length", c_size_t),
        ("release", c_void_p),
        ("private", c_void_p),
    )


def sha256(values: pa.LargeBinaryArray) -> Digits:
    """Return the SHA-256 of each value as 64 lower-case hex digits in ASCII, one row a value; none may be null."""
    if len(values) >= MANY and (plugin := _plugin()) is not None:
        return _by_plugin(plugin, values)
    return _by_hashlib(values)


def _by_hashlib(values: pa.LargeBinaryArray) -> Digits:
    digits = "".join(hashlib.sha256(value).hexdigest() for value in values.to_pylist())
    return np.frombuffer(digits.encode(), np.uint8).reshape(-1, HEX_DIGITS)


def _by_plugin(plugin: ctypes.CDLL, values: pa.LargeBinaryArray) -> Digits:
    [digits] = _call(plugin, values)
    whole = digits.cast(pa.large_binary())
    return np.frombuffer(whole.buffers()[2], np.uint8)[: HEX_DIGITS * len(whole)].reshape(-1, HEX_DIGITS)


def _call(plugin: ctypes.CDLL, values: pa.Array) -> list[pa.Array]:
    schema, array = ctypes.create_string_buffer(_SCHEMA_BYTES), ctypes.create_string_buffer(_ARRAY_BYTES)
    pa.field("", values.type)._export_to_c(ctypes.addressof(schema))
    values._export_to_c(ctypes.addressof(array))
    arrays = (c_void_p * 1)(ctypes.addressof(array))
    # No release: the plugin takes the array over, and the schema it only reads.
    given, found = _Series(ctypes.addressof(schema), arrays, 1, None, None), _Series()
    try:
        plugin._polars_plugin_sha2_256(
            byref(given), c_size_t(1), None, c_size_t(0), byref(found), byref(ctypes.c_uint64(0))
        )
    finally:
        pa.Field._import_from_c(ctypes.addressof(schema))
    if not found.private:
        raise RuntimeError(f"polars-hash: {plugin._polars_plugin_get_last_error_message()!r}")
    try:
        kind = pa.Field._import_from_c(found.field).type
        return [pa.Array._import_from_c(found.arrays[index], kind) for index in range(found.length)]
    finally:
        ctypes.CFUNCTYPE(None, c_void_p)(found.release)(ctypes.addressof(found))


_loading = threading.Lock()


def _plugin() -> ctypes.CDLL | None:
    with _loading:
        return _loaded()


@functools.cache
def _loaded() -> ctypes.CDLL | None:
    """Load the plugin; None where it speaks another version of the convention than the one written down here."""
    spec = importlib.util.find_spec("polars_hash")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [file for folder in folders for file in Path(folder).glob("_internal.*so")]
    if len(files) != 1:
        return None
    plugin = ctypes.CDLL(str(files[0]))
    plugin._polars_plugin_get_version.restype = ctypes.c_uint32
    plugin._polars_plugin_get_last_error_message.restype = ctypes.c_char_p
    plugin._polars_plugin_sha2_256.restype = None
    version = divmod(plugin._polars_plugin_get_version(), 1 << 16)
    if version != _VERSION:
        return None
    _keep_polars_out(files[0])
    return plugin


def _keep_polars_out(file: Path) -> None:
    """Let the plugin's first allocation happen while polars cannot be imported.

    It looks once for polars' own allocator, by an import, and takes the system's where there is none.
    """
    if "polars" in sys.modules:
        return
    sys.modules["polars"] = None  # type: ignore[assignment]
    try:
        # Called with the interpreter's lock, so that the import's failure comes back as the exception it is.
        _call(ctypes.PyDLL(str(file)), pa.array([b""], pa.large_binary()))
    except ImportError:
        pass
    finally:
        del sys.modules["polars"]
