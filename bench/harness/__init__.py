"""What every benchmark shares: how to compare, what to compare with, on which data, and where the result goes.

    compare     ways of doing one thing, in interleaved rounds, as ratios to a baseline of the same run
    baselines   what somebody would write without Wellhead, in one process
    data        inputs made from a seed
    world       a project in a temporary folder, and the servers beside it
    product     the real command line, and the timings it reports

A script of `bench/` asks one question and is run as a module: ``python -m bench.csv_file``.
"""
