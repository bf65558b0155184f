"""The conversation: streams as configured, pages as the source hands them out, a checkpoint behind each page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from wellhead_http_json.columns import convert
from wellhead_http_json.config import RECORD, UNDECLARED, HttpJsonConfig, StreamConfig, source
from wellhead_sdk import Connector, Data, Out, ReadRequest, Replay, Stream, SyncMode
from wellhead_sdk.column_types import column_type
from wellhead_sdk.errors import counted
from wellhead_sdk.http import HttpSession
from wellhead_sdk.pagination import Answer, Mode, Page, Query, Walk, at

USER_AGENT = "wellhead-http-json/1.0.0"


@dataclass(frozen=True, slots=True)
class Api:
    """The author's session: an HTTP session, the way of paging and the streams by name."""

    http: HttpSession
    mode: Mode
    streams: Mapping[str, StreamConfig]


class HttpJsonConnector(Connector):
    """Offers one stream per configured path, each read from its first page to its last."""

    Config = HttpJsonConfig
    max_parallel = 4

    def authenticate(self, config: HttpJsonConfig, secrets: Mapping[str, str]) -> Api:
        """Prepare requests; an API has no common place to prove a secret at, so the probes and the first page do."""
        found = source(config, secrets, USER_AGENT)
        streams = {stream.name: stream for stream in config.streams}
        return Api(HttpSession(found.transport, found.authenticator), found.mode, streams)

    def probes(self, session: Api) -> Mapping[str, Callable[[], str]]:
        """Return one test: the first stream's first page comes and holds a list of records."""
        stream = next(iter(session.streams.values()))

        def reachable() -> str:
            answer = session.http.answer(stream.path, _query(stream, 1))
            return f"{stream.name}: {counted(len(_records(answer.document, stream)), 'record')} on the first page"

        return {"first_page": reachable}

    def discover(self, session: Api) -> Iterable[Stream]:
        """Yield the configured streams; nothing is asked of the source."""
        for stream in session.streams.values():
            yield Stream(
                stream.name,
                _schema(stream),
                primary_key=stream.primary_key,
                sync_modes=(SyncMode.FULL_REFRESH,),
                replay=Replay.POSITION,
                event_time=stream.event_time or "",
            )

    def read(self, session: Api, request: ReadRequest, out: Out) -> None:
        """Emit page by page from the state's cursor on."""
        stream = session.streams[request.stream]
        state = request.cursor or {"cursor": None, "complete": False}
        if state["complete"]:
            return

        def fetch(paging: Query) -> Answer:
            return session.http.answer(stream.path, (*_query(stream, request.batch_size), *paging), out)

        for page in Walk(session.mode, fetch, state["cursor"]):
            _emit(page, stream, request.schema, out)
            out.checkpoint({"cursor": page.next, "complete": page.next is None})

    def close(self, session: Api) -> None:
        """Close idle connections."""
        session.http.close()


def _emit(page: Page, stream: StreamConfig, schema: pa.Schema, out: Out) -> None:
    rows, refused = convert(_records(page.document, stream), schema, stream.columns, stream.primary_key)
    out.emit(rows, raw=page.raw_ref, read_at=page.read_at)
    for one in refused:
        out.reject(one.record, reason=one.reason, key=one.key, column=one.column, text=one.text)


def _records(document: Any, stream: StreamConfig) -> list[Any]:
    found = at(document, stream.records.split(".")) if stream.records else document
    if not isinstance(found, list):
        raise Data(
            f"the answer for {stream.name} has no list at {stream.records or 'its top'}",
            stream=stream.name,
            hint="set the stream's `records` to the dotted path of the list of records",
        )
    return found


def _query(stream: StreamConfig, batch_size: int) -> Query:
    size = ((stream.batch_size_param, str(batch_size)),) if stream.batch_size_param else ()
    return (*stream.query.items(), *size)


def _schema(stream: StreamConfig) -> pa.Schema:
    if not stream.columns:
        return pa.schema([pa.field(RECORD, pa.string())])
    fields = [pa.field(name, column_type(word)) for name, word in stream.columns.items()]
    if stream.undeclared == "keep":
        fields.append(pa.field(UNDECLARED, pa.string()))
    return pa.schema(fields)
