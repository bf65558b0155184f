"""What a connector author imports.

class Orders(Connector):
    Config = OrdersConfig

    def authenticate(self, config, secrets): ...
    def discover(self, session): yield Stream("orders", schema=..., primary_key=["id"], cursor="updated_at")
    def read(self, session, request, out):
        for page in session.pages(request.cursor):
            out.emit(page.records)
            out.checkpoint({"cursor": page.next})

if __name__ == "__main__":
    serve(Orders)
"""

from wellhead_sdk.connector import (
    WHOLE_STREAM,
    Connector,
    Identity,
    Plan,
    Pushdown,
    ReadRequest,
    State,
    Stream,
    Unit,
)
from wellhead_sdk.errors import (
    Auth,
    Configuration,
    ConnectorError,
    Data,
    Fatal,
    PlanStale,
    Throttled,
    Transient,
)
from wellhead_sdk.out import Out
from wellhead_sdk.serve import serve
from wellhead_sdk.wire.messages import CheckpointType, Filter, LogLevel, OpenedHost, Replay, SyncMode, Until, WriteMode

__all__ = [
    "WHOLE_STREAM",
    "Auth",
    "CheckpointType",
    "Configuration",
    "Connector",
    "ConnectorError",
    "Data",
    "Fatal",
    "Filter",
    "Identity",
    "LogLevel",
    "OpenedHost",
    "Out",
    "Plan",
    "PlanStale",
    "Pushdown",
    "ReadRequest",
    "Replay",
    "State",
    "Stream",
    "SyncMode",
    "Throttled",
    "Transient",
    "Unit",
    "Until",
    "WriteMode",
    "serve",
]
