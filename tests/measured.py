"""Run a command and say how it ended and how much memory it held: ``python -IS measured.py FD COMMAND…``.

A process inherits the peak of the one that forked it (see execve(2) and getrusage(2)), so a test runner that has grown
large would be counted as part of what it starts. This small one stands in between. It writes ``STATUS KIB`` to FD.
"""

import os
import sys

report = int(sys.argv[1])
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_CLOSE, report)])
_, status, usage = os.wait4(child, 0)
os.write(report, f"{status} {usage.ru_maxrss}".encode())
