"""``python -m wellhead``: the same as the command ``wellhead``."""

from wellhead.cli.main import main

main()
