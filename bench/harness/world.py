"""Where a benchmark happens: a project with published connectors in a temporary folder, beside real servers.

Everything is made by the command line and by the parts the tests use, and is gone afterwards.
"""

from __future__ import annotations

import compileall
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import lender as lenders
from tests.parts import ROOT, openbao_server, postgres_server
from tests.project import CONNECTORS, FIXTURES, Project, make

__all__ = ["CONNECTORS", "FIXTURES", "Project"]


@contextmanager
def project(*connectors: Path) -> Iterator[Project]:
    """Lend a project with these connectors published into it.

    The workspace's own modules are compiled first, as those of an installed package are: an environment that keeps
    Python from writing bytecode would else be measured, and not the program.
    """
    for folder in ("runtime", "sdk"):
        compileall.compile_dir(ROOT / folder, quiet=2)
    with tempfile.TemporaryDirectory(prefix="wellhead-bench-") as folder:
        yield make(Path(folder, "project"), *connectors)


@contextmanager
def lender() -> Iterator[lenders.Lender]:
    """Lend a PostgreSQL and a Vault that makes credentials on it."""
    with postgres_server(listen=("0.0.0.0",)) as postgres, openbao_server() as openbao:
        yield lenders.lender(postgres, openbao)
