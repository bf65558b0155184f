"""The host's half of the conversation with one started connector.

    client.py    Session: the socket it trusts, the RPCs, their deadlines
    stream.py    UnitStream: one Emit, frame by frame, with its credit and its silence
    verify.py    Verifier: what a connector said against what it sent; knows no gRPC
    failures.py  a connector's failure, or gRPC's, as the error that says what to do next

A connector is somebody else's program. Everything it says is checked here, once, and past this package it is trusted.
"""
