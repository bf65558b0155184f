"""What every test of the workspace shares, under tests/ and beside each connector."""

from hypothesis import settings

pytest_plugins = ("tests.parts", "tests.strictness", "tests.golden")

# No timed assertions: how long an example takes says how busy the machine is.
settings.register_profile("wellhead", deadline=None)
settings.load_profile("wellhead")
