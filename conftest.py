"""What every test of the workspace shares, under tests/ and beside each connector."""

pytest_plugins = ("tests.parts", "tests.strictness", "tests.golden")
