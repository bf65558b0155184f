"""What a connector author imports.

class Orders(Connector):
    Config = OrdersConfig

    def authenticate(self, config, secrets): ...
    def discover(self, session): yield Stream("orders", schema=..., primary_key=["id"])
    def read(self, session, request, out):
        state = request.cursor or {"after": 0}
        for page in session.pages(after=state["after"]):
            out.emit(page)
            out.checkpoint({"after": page[-1]["id"]})

if __name__ == "__main__":
    serve(Orders)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not when it is asked for, as the others: its module has its name, and whoever imports that first would get the module.
from wellhead_sdk.serve import serve

if TYPE_CHECKING:
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
    from wellhead_sdk.wire.messages import (
        CheckpointType,
        Filter,
        LogLevel,
        OpenedHost,
        Replay,
        SyncMode,
        Until,
        WriteMode,
    )

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

# Where each name lives, imported when it is first asked for: the host takes `wellhead_sdk.wire` alone, and starts
# without the server's half.
_HOMES = {
    "wellhead_sdk.connector": (
        "WHOLE_STREAM",
        "Connector",
        "Identity",
        "Plan",
        "Pushdown",
        "ReadRequest",
        "State",
        "Stream",
        "Unit",
    ),
    "wellhead_sdk.errors": (
        "Auth",
        "Configuration",
        "ConnectorError",
        "Data",
        "Fatal",
        "PlanStale",
        "Throttled",
        "Transient",
    ),
    "wellhead_sdk.out": ("Out",),
    "wellhead_sdk.wire.messages": (
        "CheckpointType",
        "Filter",
        "LogLevel",
        "OpenedHost",
        "Replay",
        "SyncMode",
        "Until",
        "WriteMode",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(home), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
