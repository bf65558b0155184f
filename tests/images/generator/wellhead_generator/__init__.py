"""A source made of arithmetic: rows that follow from a seed and an index, for tests and benchmarks.

`rows` knows what a row looks like, `faults` what may go wrong on the way, `ledger` speaks to a source that forgets what
was acknowledged, `connector` puts them behind the SDK.
"""
