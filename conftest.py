"""What every test of the workspace shares, under tests/ and beside each connector."""

import gc

from hypothesis import settings

pytest_plugins = ("tests.parts", "tests.strictness", "tests.golden")

# What was collected stays: looking through all of it at every few hundred new objects finds nothing, and takes seconds.
gc.set_threshold(50_000, 20, 100)

# No timed assertions: how long an example takes says how busy the machine is.
settings.register_profile("wellhead", deadline=None)
settings.load_profile("wellhead")
