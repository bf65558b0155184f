"""What a connection may ask of the generator; also the manifest's config schema."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wellhead_generator.faults import Fault
from wellhead_generator.rows import Profile


class GeneratorConfig(BaseModel):
    """How many rows, of what shape, how fast, and what goes wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(1_000, ge=0, description="Rows in the source.")
    rows_file: str | None = Field(None, description="File whose number replaces `rows`, so that a source can grow.")
    profile: Profile = Field("mixed", description="Columns: narrow 3, mixed 7, wide 47.")
    style: Literal["columnar", "dicts"] = Field("columnar", description="Emit Arrow batches or lists of dicts.")
    partitions: int = Field(1, ge=1, le=64, description="Units a full refresh is cut into.")
    seed: int = Field(0, ge=0, le=2**31, description="Another seed, other rows.")
    page_rows: int | None = Field(None, ge=1, description="Rows a page; default the stream's batch_size.")
    page_sleep_ms: int = Field(0, ge=0, description="Pause after each page.")
    checkpoint_every: int = Field(1, ge=1, description="Pages between two offers.")
    state_bytes: int = Field(0, ge=0, description="Padding of every state.")
    ledger: str | None = Field(None, description="Socket of a source that forgets what was acknowledged.")
    fail_at: int | None = Field(None, ge=0, description="Row before which the read fails.")
    fail_as: Fault = Field("transient", description="How it fails.")
    fail_once: bool = Field(False, description="Fail only in a read that began without a state.")
    retry_after_s: float = Field(1.0, ge=0, description="What a throttled failure and `wait_at` ask for.")
    wait_at: int | None = Field(None, ge=0, description="Row before which the source throttles.")
    change_schema_at: int | None = Field(None, ge=0, description="Row from which a column `added` exists.")
    reject_every: int | None = Field(None, ge=1, description="Set aside each row whose id is a multiple of it.")
    oversize_every: int | None = Field(None, ge=1, description="One row in so many is larger than a frame.")
    log_every: int | None = Field(None, ge=1, description="Pages between two log lines.")

    @model_validator(mode="after")
    def _faults_need_columns(self) -> GeneratorConfig:
        if self.oversize_every is not None and self.profile == "narrow":
            raise ValueError("oversize_every needs the profile mixed or wide: narrow rows have no text to blow up")
        if self.style == "dicts" and (self.reject_every or self.oversize_every or self.change_schema_at is not None):
            raise ValueError("reject_every, oversize_every and change_schema_at work on columns: use style columnar")
        return self
