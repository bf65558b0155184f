"""A pytest plugin: a test that did not run is a failure, so that green always means that everything was tried."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

_RULE = "tests of this project are not skipped: a missing part is a failure"


def _as_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{_RULE}\n{report.longrepr}"
        # pytest counts a failure that carries this mark of an expected one as none.
        vars(report).pop("wasxfail", None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip, an expected failure included, into a failure."""
    report = yield
    _as_failure(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, pytest.CollectReport]:
    """Turn a module that skips itself into a failure."""
    report: pytest.CollectReport = yield
    _as_failure(report)
    return report
