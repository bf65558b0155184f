"""A connector that wants harm. Never fix it.

Each mode of ``modes.yaml`` is one attack; `modes` maps the names to code. The conversation is held below the SDK,
because the SDK refuses to lie:

    service    an honest conversation, with one place per RPC where a mode may step in
    frames     what an honest SDK would have sent, so that a lie differs from the truth in one point
    lies       broken promises of the protocol
    floods     too much of everything: logs, frames, memory, processes, disk
    hangs      silence, at every place where a host waits
    plants     things left where they must not be: in the socket folder and on the disk
    leaks      its own secret, said wherever a connector can say something
    escapes    every way out of the sandbox that we know of, with what came of it
"""
