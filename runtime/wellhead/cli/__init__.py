"""The command line: one file per noun, each of which parses, calls and prints, and nothing else.

Standard output carries data, standard error everything meant for a person watching. Heavy imports stay inside the
commands, so that ``wellhead --help`` answers at once.
"""
