"""The names of ``modes.yaml`` and the code behind each; a test holds the two together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pyarrow as pa

from wellhead_hostile import failures, floods, hangs, leaks, lies, plants
from wellhead_hostile.frames import ATTEMPTS, Said, Talk, honest
from wellhead_hostile.service import Mode


def escape(talk: Talk) -> Iterator[Said]:
    """Try every way out in a process of its own, and send each attempt as a record."""
    if talk.stream != "attempts":
        yield from honest(talk)
        return
    targets = {name: talk.config[name] for name in ("host", "port", "addresses") if name in talk.config}
    yield talk.schema(ATTEMPTS)
    with subprocess.Popen(
        [sys.executable, "-m", "wellhead_hostile.escapes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("the child was started without pipes")
        with child.stdin as stdin:
            json.dump(targets, stdin)
        for line in child.stdout:
            yield talk.batch_of(pa.RecordBatch.from_pylist([json.loads(line)], schema=ATTEMPTS))
    if child.returncode:
        raise RuntimeError(f"the attempts ended with {child.returncode}")
    yield from talk.end()


MODES: dict[str, Mode] = {
    "honest": Mode(),
    "escape": Mode(emit=escape),
    # lies, of the handshake
    "unknown_version": Mode(describe=lies.unknown_version),
    "no_version": Mode(describe=lies.no_version),
    "another_identity": Mode(describe=lies.another_identity),
    "another_release": Mode(describe=lies.another_release),
    "another_manifest": Mode(describe=lies.another_manifest),
    # lies, of what there is
    "stream_flood": Mode(discover=lies.stream_flood),
    "stream_offered_twice": Mode(discover=lies.stream_offered_twice),
    "unasked_streams": Mode(discover=lies.unasked_streams),
    "reserved_name_offered": Mode(discover=lies.reserved_name_offered),
    "unit_flood": Mode(plan=lies.unit_flood),
    "units_named_alike": Mode(plan=lies.units_named_alike),
    "unit_named_as_a_path": Mode(plan=lies.unit_named_as_a_path),
    "no_units": Mode(plan=lies.no_units),
    # lies, of what is sent
    "gap_in_batch_no": Mode(emit=lies.gap_in_batch_no),
    "repeated_batch_no": Mode(emit=lies.repeated_batch_no),
    "wrong_crc": Mode(emit=lies.wrong_crc),
    "wrong_row_count": Mode(emit=lies.wrong_row_count),
    "totals_mismatch": Mode(emit=lies.totals_mismatch),
    "no_done": Mode(emit=lies.no_done),
    "rows_after_the_last_offer": Mode(emit=lies.rows_after_the_last_offer),
    "no_offer_at_all": Mode(emit=lies.no_offer_at_all),
    "batch_after_done": Mode(emit=lies.batch_after_done),
    "batch_before_schema": Mode(emit=lies.batch_before_schema),
    "schema_in_mid_air": Mode(emit=lies.schema_in_mid_air),
    "batch_of_another_schema": Mode(emit=lies.batch_of_another_schema),
    "wrong_fingerprint": Mode(emit=lies.wrong_fingerprint),
    "batch_of_another_stream": Mode(emit=lies.batch_of_another_stream),
    "reserved_column": Mode(emit=lies.reserved_column),
    "noise_for_arrow": Mode(emit=lies.noise_for_arrow),
    "cut_arrow": Mode(emit=lies.cut_arrow),
    "offsets_out_of_range": Mode(emit=lies.offsets_out_of_range),
    "text_that_is_not_utf8": Mode(emit=lies.text_that_is_not_utf8),
    "two_batches_in_one": Mode(emit=lies.two_batches_in_one),
    "compression_bomb": Mode(emit=lies.compression_bomb),
    "nulls_bomb": Mode(emit=lies.nulls_bomb),
    "dictionary_column": Mode(emit=lies.dictionary_column),
    "batch_over_the_cap": Mode(emit=lies.batch_over_the_cap),
    "message_over_the_cap": Mode(emit=lies.message_over_the_cap),
    "not_protobuf": Mode(emit=lies.not_protobuf),
    "empty_frame": Mode(emit=lies.empty_frame),
    "credit_overrun": Mode(emit=lies.credit_overrun),
    "giant_state": Mode(emit=lies.giant_state),
    "offer_of_the_future": Mode(emit=lies.offer_of_the_future),
    "offer_of_the_past": Mode(emit=lies.offer_of_the_past),
    "offer_with_wrong_rows": Mode(emit=lies.offer_with_wrong_rows),
    # failures
    "fails_transient": Mode(emit=failures.fails("transient", "unavailable")),
    "fails_throttled": Mode(emit=failures.fails("throttled", "rate_limited", retry_after_s=3600.0)),
    "fails_auth": Mode(emit=failures.fails("auth", "unauthenticated")),
    "fails_permanent": Mode(emit=failures.fails("permanent", "invalid_argument")),
    "fails_data": Mode(emit=failures.fails("data", "data_loss")),
    "fails_internal": Mode(emit=failures.fails("internal", "internal")),
    "reports_local_state": Mode(emit=failures.reports_local_state),
    "reports_no_space": Mode(emit=failures.reports_no_space),
    "exits_before_serving": Mode(start=failures.exits_before_serving),
    "exits_3_before_serving": Mode(start=failures.exits_3_before_serving),
    "exits_0_in_read": Mode(emit=failures.exits_0_in_read),
    "crashes": Mode(emit=failures.crashes),
    # floods
    "log_flood": Mode(emit=floods.logs),
    "forged_log": Mode(emit=floods.log_fields),
    "stdout_flood": Mode(emit=floods.stdout),
    "progress_flood": Mode(emit=floods.progress),
    "offer_flood": Mode(emit=floods.offers),
    "empty_batch_flood": Mode(emit=floods.empty_batches),
    "schema_flood": Mode(emit=floods.schemas),
    "rejected_flood": Mode(emit=floods.rejected),
    "memory_flood": Mode(emit=floods.memory),
    "process_flood": Mode(emit=floods.processes),
    "temporary_files_flood": Mode(emit=floods.temporary_files),
    # hangs
    "hangs_before_serving": Mode(start=hangs.before_serving),
    "hangs_in_describe": Mode(describe=hangs.in_describe),
    "hangs_in_authenticate": Mode(authenticate=hangs.in_authenticate),
    "hangs_in_discover": Mode(discover=hangs.in_discover),
    "hangs_in_plan": Mode(plan=hangs.in_plan),
    "hangs_in_emit": Mode(emit=hangs.in_emit),
    "hangs_in_checkpoint": Mode(checkpoint=hangs.in_checkpoint),
    "drip": Mode(emit=hangs.drip),
    "endless_wait": Mode(emit=hangs.endless_wait),
    "without_end": Mode(emit=hangs.without_end),
    "lingers_after_done": Mode(lingers=True),
    "ignores_sigterm": Mode(terminated=hangs.on_sigterm),
    # plants
    "link_to_engine": Mode(start=plants.link_to_engine),
    "link_to_neighbour": Mode(start=plants.link_to_neighbour),
    "file_for_socket": Mode(start=plants.file),
    "pipe_for_socket": Mode(start=plants.pipe),
    "deaf_socket": Mode(start=plants.deaf_socket),
    "socket_swapped": Mode(serving=plants.swap, emit=hangs.drip),
    "files_beside_socket": Mode(serving=plants.neighbour_files, emit=hangs.drip),
    "socket_folder_filled": Mode(serving=plants.flood, emit=hangs.drip),
    "locked_folder": Mode(serving=plants.locked_folder, emit=hangs.drip),
    # leaks
    "leaks_in_logs": Mode(emit=leaks.logs),
    "leaks_in_error": Mode(emit=leaks.error),
    "leaks_in_last_words": Mode(emit=leaks.crash),
    "leaks_in_records": Mode(emit=leaks.records),
    "leaks_in_state": Mode(emit=leaks.state),
    "leaks_in_rejected": Mode(emit=leaks.rejected),
    "leaks_in_violation": Mode(emit=leaks.violation),
    "leaks_in_identity": Mode(authenticate=leaks.identity),
}
