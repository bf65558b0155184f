from __future__ import annotations

import pyarrow as pa
import pytest

from wellhead_sdk.column_types import WORDS, column_type


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("text", pa.string()),
        ("int", pa.int64()),
        ("timestamp", pa.timestamp("us")),
        ("timestamptz", pa.timestamp("us", "UTC")),
        ("decimal(38,0)", pa.decimal128(38, 0)),
        ("decimal(4, 2)", pa.decimal128(4, 2)),
    ],
)
def test_a_word_names_one_arrow_type(word: str, expected: pa.DataType) -> None:
    assert column_type(word) == expected


@pytest.mark.parametrize("word", ["", "INT", "string", "decimal", "decimal(39,2)", "decimal(0,0)", "decimal(2,3)"])
def test_any_other_word_is_refused_with_those_that_exist(word: str) -> None:
    with pytest.raises(ValueError, match="is not one of") as caught:
        column_type(word)
    assert WORDS in str(caught.value)
