"""How the program keeps its memory small."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, sys, threading
from wellhead.cli import main
sys.argv = ["wellhead", "--help"]
try:
    main.main()
except SystemExit:
    pass
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
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


def test_all_threads_share_one_arena() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stderr
    assert said.count("<heap nr=") == 1
