from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_csv_file import blocks as cutting
from wellhead_csv_file.blocks import Text, blocks, middle, whole_records
from wellhead_sdk.errors import Data, Transient

RECORDS = st.lists(st.lists(st.text(alphabet='ab",\n é', max_size=6), min_size=2, max_size=2), min_size=1, max_size=20)


def as_csv(records: list[list[str]], line_end: str = "\n") -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(records)
    return text.getvalue().encode()


def cut(file: Path, content: bytes, block_bytes: int, start: int = 0, encoding: str = "utf-8") -> list[bytes]:
    file.write_bytes(content)
    with Text(file, encoding) as text:
        text.skip(start)
        return [block.data for block in blocks(text, start, block_bytes)]


@pytest.mark.slow
@given(records=RECORDS, line_end=st.sampled_from(["\n", "\r\n"]), block_bytes=st.integers(1, 80), has_end=st.booleans())
def test_blocks_hold_whole_records_and_together_the_file(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], line_end: str, block_bytes: int, has_end: bool
) -> None:
    content = as_csv(records, line_end)
    content = content if has_end else content.removesuffix(line_end.encode())
    found = cut(tmp_path_factory.getbasetemp() / "cut.csv", content, block_bytes)
    assert b"".join(found) == content
    parsed = [row for block in found for row in csv.reader(io.StringIO(block.decode(), newline=""))]
    assert parsed == records


@pytest.mark.slow
@given(records=RECORDS, block_bytes=st.integers(1, 80), data=st.data())
def test_reading_on_from_the_end_of_any_block_gives_the_rest(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], block_bytes: int, data: st.DataObject
) -> None:
    content = as_csv(records)
    file = tmp_path_factory.getbasetemp() / "resume.csv"
    file.write_bytes(content)
    with Text(file, "utf-8") as text:
        ends = [block.end for block in blocks(text, 0, block_bytes)]
    end = data.draw(st.sampled_from(ends))
    assert b"".join(cut(file, content, block_bytes, end)) == content[end:]


@given(
    records=RECORDS, encoding=st.sampled_from(["utf-16", "utf-16-be", "utf-32", "cp1252", "utf-8-sig"]), data=st.data()
)
def test_another_encoding_gives_the_same_text_and_resumes_in_it(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], encoding: str, data: st.DataObject
) -> None:
    content = as_csv(records)
    file = tmp_path_factory.getbasetemp() / "encoded.csv"
    start = data.draw(st.sampled_from([0, content.rindex(b"\n") + 1]))
    found = cut(file, content.decode().encode(encoding), 16, start, encoding)
    assert b"".join(found) == content[start:]


def test_bytes_that_an_encoding_lacks_become_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (block,) = cut(tmp_path / "x.csv", b"1,\x81\n2,\xe9\n", 1000, encoding="cp1252")
    assert block == b"1,\xff\n2,\xc3\xa9\n"


def test_a_file_is_seen_as_it_was_even_if_it_grows(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"1,a\n2,b\n")
    with Text(file, "utf-8") as text, file.open("ab") as grown:
        grown.write(b"3,c\n")
        grown.flush()
        assert [block.data for block in blocks(text, 0)] == [b"1,a\n2,b\n"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_file_that_became_shorter_is_not_taken_for_its_end(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"1,a\n2,b\n")
    with Text(file, encoding) as text:
        os.truncate(file, 4)
        with pytest.raises(Transient, match="it ends 4 bytes early"):
            list(blocks(text, 0))


def test_a_quote_without_a_partner_costs_its_own_line_only(tmp_path: Path) -> None:
    found = cut(tmp_path / "x.csv", b'1,a\n2,12" pipe\n3,c\n4,d\n', 1000)
    assert found == [b"1,a\n", b'2,12" pipe\n', b"3,c\n4,d\n"]


def test_records_larger_than_a_block_stay_whole(tmp_path: Path) -> None:
    large = b'"' + b"x\n" * 5000 + b'",1\n'
    assert cut(tmp_path / "x.csv", large + b"y,2\n", 64)[0].startswith(large)


def test_text_without_any_line_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "MAX_RECORD_BYTES", 1000)
    with pytest.raises(Data, match="no line ends within 1000 bytes from byte 4 on"):
        cut(tmp_path / "x.csv", b"a,b\n" + b"x" * 5000, 100)


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"a", 0),
        (b"a\n", 2),
        (b"a\nb", 2),
        (b'a\n"b\n', 2),
        (b'a\n"b\nc"\n"d\n', 8),
        (b'"a""\n"\nb', 7),
        (b'"a\n', 0),
        (b'"a\nb\nc\n"\n"d\n"\n"e\nf', 14),
    ],
)
def test_the_last_whole_record_ends_outside_quotes(data: bytes, end: int) -> None:
    assert whole_records(data) == end


@given(records=RECORDS)
def test_the_middle_is_the_end_of_a_record_and_found_wherever_there_are_two(records: list[list[str]]) -> None:
    data = as_csv(records)
    cut_at = middle(data)
    assert (cut_at == 0) == (len(records) == 1)
    rows = list(csv.reader(io.StringIO(data[:cut_at].decode(), newline="")))
    assert rows == records[: len(rows)]
