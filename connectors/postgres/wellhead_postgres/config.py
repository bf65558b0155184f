"""What a connection to PostgreSQL says; the manifest's config schema says the same."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SslMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class PostgresConfig(BaseModel):
    """The ``config`` section of a connection."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    host: str = Field(min_length=1, description="DNS name of the server.")
    port: int = Field(5432, ge=1, le=65535, description="TCP port.")
    database: str = Field(min_length=1, description="Database name.")
    schema_: str = Field("public", alias="schema", min_length=1, description="Schema whose tables are offered.")
    ssl_mode: SslMode | None = Field(
        None, description="As libpq's sslmode; default verify-full, and prefer where the operator granted the address."
    )
    ssl_root_cert: str | None = Field(None, description="PEM of the CA that signed the server's certificate.")
    lookback_seconds: int = Field(
        600, ge=0, le=7 * 86400, description="How late a row may commit behind a time cursor and still be read."
    )
    partitions: int | None = Field(None, ge=1, le=16, description="Key ranges of a full refresh; default by size.")
    timeout_seconds: int = Field(
        300, ge=1, description="For each question to the catalog, and for a connect, which is given 50 at the most."
    )
    max_retries: int = Field(3, ge=0, le=10, description="Times a failed connect is tried again.")
