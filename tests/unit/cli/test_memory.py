"""How the program keeps its memory small."""

from __future__ import annotations

import subprocess
import sys

MAIN = """
import ctypes, sys, threading
from wellhead.cli import main
sys.argv = ["wellhead", "--help"]
try:
    main.main()
except SystemExit:
    pass
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
"""

ARENAS = """
ready = threading.Barrier(5)
def allocate():
    libc.malloc(ctypes.c_size_t(100_000))
    ready.wait()
for _ in range(4):
    threading.Thread(target=allocate).start()
ready.wait()
shown = ctypes.c_void_p(libc.fdopen(2, b"w"))
libc.malloc_info(0, shown)
libc.fflush(shown)
"""

LARGE_BLOCKS = """
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
def block(size):
    found = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    ctypes.memset(found, 1, size)
    return found
size = main.LARGE_BLOCK_BYTES + 4096
libc.free(block(size))
held = [part for _ in range(4) for part in (block(size), block(100_000))]
before = resident()
for part in held[::2]:
    libc.free(part)
print((before - resident()) * 1024 // size)
"""


def _said(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MAIN + program], check=True, capture_output=True, text=True)


def test_all_threads_share_one_arena() -> None:
    assert _said(ARENAS).stderr.count("<heap nr=") == 1


def test_large_blocks_go_back_to_the_system_whatever_lies_between_them() -> None:
    assert _said(LARGE_BLOCKS).stdout.splitlines()[-1] in ("3", "4")
