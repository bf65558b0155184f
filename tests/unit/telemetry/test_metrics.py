from __future__ import annotations

from wellhead.telemetry.metrics import Counters, Meter


def test_a_newer_report_replaces_and_a_new_emit_adds() -> None:
    meter = Meter()
    meter.begin("orders", "all")
    meter.report("orders", "all", Counters(requests_total=1))
    meter.report("orders", "all", Counters(requests_total=3, retries_total=1))
    meter.begin("orders", "all")
    meter.report("orders", "all", Counters(requests_total=2))
    meter.report("items", "all", Counters(bytes_ingested_total=10, pages_processed_total=4, requests_failed_total=1))
    assert meter.total() == Counters(5, 1, 10, 4, 1)


def test_a_row_names_every_metric() -> None:
    assert Meter().as_row(1.23456) == {
        "requests_total": 0,
        "requests_failed_total": 0,
        "bytes_ingested_total": 0,
        "pages_processed_total": 0,
        "retries_total": 0,
        "duration_seconds": 1.235,
    }
