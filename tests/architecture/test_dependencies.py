"""What an author's image must carry, what the SDK promises by name, and what a quick command may not wait for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib

import pytest

import wellhead_sdk
from tests.architecture.source import ROOT, imported, modules
from tests.golden import Golden

#: Each costs every connector image megabytes and every author a version to agree with; see docs/decisions.
SDK_DEPENDENCIES = [
    "google-crc32c",
    "googleapis-common-protos",
    "grpcio",
    "protobuf",
    "pyarrow",
    "pydantic",
]
HEAVY = ["alembic", "cryptography", "docker", "grpc", "hvac", "polars", "psycopg", "pyarrow", "sqlalchemy"]


def test_the_sdk_asks_for_no_more_than_it_did() -> None:
    project = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text())["project"]
    assert [re.split(r"[^a-z0-9-]", name)[0] for name in project["dependencies"]] == SDK_DEPENDENCIES


def test_the_public_names_of_the_sdk_are_the_agreed_ones(golden: Golden) -> None:
    golden.check("sdk_names.txt", "\n".join(sorted(wellhead_sdk.__all__)) + "\n")


@pytest.mark.parametrize("name", sorted(wellhead_sdk.__all__))
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert getattr(wellhead_sdk, name).__doc__


def test_the_gateway_program_needs_its_own_package_and_the_standard_library_alone() -> None:
    egress = {path.stem: imported(module) for path, module in modules("runtime/wellhead/egress")}
    waiting, outside, seen = ["gateway"], set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for needed in egress[name]:
            parts = needed.split(".")
            if parts[:2] == ["wellhead", "egress"]:
                waiting += parts[2:3]
            elif parts[0] not in sys.stdlib_module_names:
                outside.add(f"{name} imports {needed}")
    assert outside == set()
    assert {"gateway", "policy", "address"} <= seen


def test_help_waits_for_no_heavy_import() -> None:
    program = (
        "import json, sys\n"
        "from wellhead.cli.main import main\n"
        "sys.argv = ['wellhead', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage" in ran.stdout
    assert json.loads(ran.stderr.splitlines()[-1]) == []


@pytest.mark.slow
def test_nothing_before_the_launch_imports_what_is_imported_while_the_container_starts() -> None:
    program = (
        "import json, sys\n"
        "import wellhead.app, wellhead.lifecycle.run\n"
        "from wellhead.sinks.parquet import Parquet\n"
        "print(json.dumps([name for name in ('pyarrow', 'grpc', 'numpy') if name in sys.modules]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []
