"""Where batches become durable: the envelope, the segments, and the sinks that publish them.

    envelope   payload batch → batch with the fourteen columns every record carries
    base       what a sink is: the contract its implementations share
    segments   staged files, publishing by rename, exchange of generations, sweeping
    parquet    Parquet files in a folder
    jsonl      JSON lines in a folder
    event_id   the 128 bits that name a record

Nothing here knows the registry: a segment is *committed* by whoever holds the transaction, and published from here.
"""
