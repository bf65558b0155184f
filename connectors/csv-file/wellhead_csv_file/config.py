"""What a person says about the file."""

from __future__ import annotations

import codecs
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wellhead_sdk.column_types import column_type


class CsvFileConfig(BaseModel):
    """Configuration of one connection; the manifest's schema says the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="The file as the container sees it: /data/MOUNT/NAME.csv.")
    stream: str | None = Field(
        None, min_length=1, description="Name of the stream; default the file's, without suffix."
    )
    delimiter: str = Field(",", description="One ASCII character between fields.")
    has_header: bool = Field(True, description="Whether the first record holds the columns' names.")
    column_names: tuple[str, ...] = Field((), description="Names to use instead of the header's, or where none is.")
    encoding: str = Field("utf-8", description="Any encoding that Python knows by name.")
    types: Literal["text", "inferred"] = Field(
        "text", description="Type of columns that `columns` does not name: text, or what the first 4 MiB suggest."
    )
    columns: dict[str, str] = Field(default_factory=dict, description="Column → type; decides over `types`.")
    null_values: tuple[str, ...] = Field(("",), description="Unquoted texts that mean null.")

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str) -> str:
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
            raise ValueError('must be one ASCII character other than a quote or a line end; write a tab as "\\t"')
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            # Refuses rot13, base64 and their like too: codecs, but not of text to bytes.
            "a".encode(encoding)
        except LookupError:
            raise ValueError(f"{encoding!r} is no encoding; try utf-8, cp1252, iso-8859-1 or utf-16") from None
        return codecs.lookup(encoding).name

    @field_validator("columns")
    @classmethod
    def _typed(cls, columns: dict[str, str]) -> dict[str, str]:
        for column, word in columns.items():
            try:
                column_type(word)
            except ValueError as exc:
                raise ValueError(f"{column}: {exc}") from None
        return columns
