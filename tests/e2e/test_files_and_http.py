"""Files from a mounted folder and an API over TLS, each through a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.https_source import Asked, Reply, https_source, page
from tests.lender import OUTSIDE, Lender
from tests.project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CSV = 'id,name,amount\n1,"a ""quoted"" one",1.50\n2,"two\nlines",-3\n3,é🐘,\n'
ROWS = [("1", 'a "quoted" one', "1.50"), ("2", "two\nlines", "-3"), ("3", "é🐘", None)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """An opened folder with one file, beside one that is not opened."""
    for name in ("opened", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "orders.csv").write_text(CSV)
    return tmp_path


@pytest.fixture
def project(shipped: Project, files: Path, tmp_path: Path) -> Project:
    """A project whose operator opened one folder."""
    twin = shipped.copy(tmp_path / "host")
    twin.configure(files={"roots": [str(files / "opened")]})
    return twin


def _connect(project: Project, folder: Path, path: str = "/data/inbox/orders.csv") -> None:
    project.connect("files", "wellhead/csv-file", ["orders"], config={"path": path}, mounts={"inbox": str(folder)})


def test_a_file_of_an_opened_folder_arrives(project: Project, files: Path) -> None:
    _connect(project, files / "opened")
    outcome = project.run("files")
    assert outcome.exit_code == 0, outcome.stderr
    assert project.rows("files", "orders", "id, name, amount", "order by id") == ROWS


def test_a_folder_nobody_opened_is_refused(project: Project, files: Path) -> None:
    _connect(project, files / "closed")
    outcome = project.run("files")
    assert (outcome.exit_code, outcome.error_code) == (76, "WH-RUN-070"), outcome.stderr
    assert "files.roots" in outcome.document["error"]["hint"]


def test_a_link_out_of_an_opened_folder_is_refused(project: Project, files: Path) -> None:
    (files / "opened" / "link").symlink_to(files / "closed")
    _connect(project, files / "opened" / "link")
    outcome = project.run("files")
    assert (outcome.exit_code, outcome.error_code) == (76, "WH-RUN-070"), outcome.stderr


def test_a_link_inside_a_mounted_folder_leads_nowhere(project: Project, files: Path) -> None:
    """The folder itself is opened; what a link in it names does not exist inside the container."""
    (files / "opened" / "orders.csv").unlink()
    (files / "opened" / "orders.csv").symlink_to(files / "closed" / "orders.csv")
    _connect(project, files / "opened")
    outcome = project.run("files")
    assert outcome.exit_code == 78, outcome.stderr
    assert project.count("files", "orders") == 0


def test_an_api_behind_tls_arrives_page_by_page(shipped: Project, lender: Lender, tmp_path: Path) -> None:
    """The gateway lets through what the list names; the connector trusts the authority its connection names."""
    project = shipped.copy(tmp_path / "host")
    pages = {
        (): {"data": [{"id": n, "total": n + 0.5} for n in range(100)], "next": "two"},
        (("after", "two"),): {"data": [{"id": n, "total": n + 0.5} for n in range(100, 150)], "next": None},
    }

    def answer(asked: Asked) -> Reply:
        known = asked.path == "/v1/orders" and asked.headers.get("Authorization") == "Bearer a-token-of-this-test"
        return page(pages[asked.query]) if known else Reply(401)

    with https_source(tmp_path, address="0.0.0.0", name="api.test") as source:
        source.route = answer
        port = int(source.base_url.rpartition(":")[2])
        lender.openbao.request("POST", "secret/data/shop", {"data": {"token": "a-token-of-this-test"}})
        lender.introduce(project, "shop")
        grant = {"connection": "shop", "cidr": f"{OUTSIDE}/32", "ports": [port]}
        project.configure(network={"hosts": {"api.test": OUTSIDE}, "grants": [grant]})
        project.connect(
            "shop",
            "wellhead/http-json",
            ["orders"],
            config={
                "base_url": f"{source.base_url}/v1",
                "ca_pem": source.ca_pem,
                "auth": "bearer",
                "pagination": {"mode": "cursor", "request_param": "after", "response_field": "next"},
                "streams": [
                    {
                        "name": "orders",
                        "path": "orders",
                        "records": "data",
                        "primary_key": ["id"],
                        "columns": {"id": "int", "total": "decimal(12,2)"},
                    }
                ],
            },
            secrets={"token": "vault://secret/shop#token"},
        )
        lender.administer(project, "shop", "")
        project.must("connection", "approve", "shop", f"api.test:{port}")
        outcome = project.run("shop")
        assert outcome.exit_code == 0, outcome.stderr
        # The probe at login reads the first page as well.
        assert [asked.query for asked in source.tape][-2:] == [(), (("after", "two"),)]
    assert project.rows("shop", "orders", "id, total::varchar", "order by id") == [(n, f"{n}.50") for n in range(150)]
    shown = json.loads(project.must("runs", "show", outcome.document["run_id"], "--json").stdout)
    assert {(each["verdict"], each["host"], each["port"]) for each in shown["egress"]} == {("allow", "api.test", port)}
