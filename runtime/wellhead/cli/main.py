"""The program: assembles the nouns, runs one command, and turns every outcome into an exit code."""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from wellhead.cli import output
from wellhead.errors import Code, ConfigurationError, UsageError, WellheadError

MISCALLED = Code("WH-CLI-102", "The command line names what the program has not, or lacks what it needs.")
NOT_TEXT = Code("WH-CLI-105", "An argument of the command line is not text.")
DENIED_HERE = Code("WH-CLI-106", "This machine denies a command a file, a folder or room.")

#: Name → module of `wellhead.cli` and what to take from it: ``app`` for a noun with verbs, else a function. A module is
#: imported when its command is called, so that ``wellhead --help`` answers at once.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("init", "init", "Make a working project in this folder."),
    "build": ("build", "build", "Build a connector's image, reproducibly and without a daemon."),
    "publish": ("publish", "publish", "Check, sign and publish a connector as a release."),
    "run": ("run", "run", "Run one connection once; safe to call twice."),
    "connection": ("connection", "app", "Add, check, approve and list connections."),
    "streams": ("probe", "streams", "List what a source offers."),
    "preview": ("probe", "preview", "Read a few rows of a stream without committing anything."),
    "shadow": ("shadow", "shadow", "Compare what another release reads with what the present one does."),
    "prefetch": ("prefetch", "prefetch", "Fetch releases ahead of runs, so that none needs the registry."),
    "runs": ("runs", "app", "What ran, how it ended, and what it said."),
    "state": ("state", "app", "Show, set and reset what a stream will go on from."),
    "deadletters": ("deadletters", "app", "Records that were set aside, and why."),
    "alerts": ("alerts", "app", "What a person should judge: drift, violations, halted rollouts."),
    "verify": ("verify", "verify", "Check a release from the trusted key to the last byte."),
    "inspect": ("verify", "inspect", "Say what is in a release, who made it and what it promises."),
    "catalog": ("catalog", "app", "The releases we know."),
    "lock": ("lock", "lock", "Write down what every connection gets, or check that it is still so."),
    "channel": ("channel", "app", "Offer releases in channels, to all or to a growing share."),
    "policy": ("policy", "app", "What governs releases and connections."),
    "mirror": ("transfer", "mirror", "Copy releases from one store to another."),
    "keys": ("keys", "app", "Keys that sign releases."),
    "receipt": ("receipt", "app", "What runs did, signed by the host that did it."),
    "manifest": ("manifest", "app", "Check a connector's manifest."),
    "rollback": ("rollback", "app", "Go back to an earlier release and hold it."),
    "hold": ("hold", "app", "Holds: versions that a rollback fixed."),
    "explain": ("explain", "explain", "Say which release a connection gets, and why no other."),
    "egress": ("egress", "app", "Explain what a run may reach."),
    "vault": ("vault", "app", "Log in to Vault, and print the policies it needs."),
    "doctor": ("doctor", "doctor", "Check this machine for what runs need."),
    "clean": ("clean", "clean", "Remove what runs left on this machine."),
    "version": ("version", "version", "Print the version."),
}


class Commands(TyperGroup):
    """The top level: knows every command's name, imports only the one that is called, and tells errors as JSON."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command line apart; what is wrong further on has to know whether ``--json`` stands in it."""
        ctx.obj = "--json" in args
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run one command; with ``--json`` an error is a document too, for whoever reads standard output alone."""
        try:
            _require_text(ctx.meta[_ARGUMENTS])
            with _machine():
                return super().invoke(ctx)
        except WellheadError as error:
            if ctx.obj:
                output.print_json(output.failure(error))
            raise
        except typer.TyperException as exc:
            # Typer shows it, after this, and ends with 2.
            if ctx.obj:
                asked = getattr(exc, "ctx", None)
                hint = f"`{asked.command_path if asked else 'wellhead'} --help` says how it is called"
                output.print_json(output.failure(UsageError(exc.format_message(), code=MISCALLED, hint=hint)))
            raise

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the commands in the order they are listed."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import and return one command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        found: Any = getattr(importlib.import_module(f"wellhead.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            # Every page of help looks the same, none waits for Rich, and only the program offers shell completion.
            found.rich_markup_mode = None
            command: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_SETTINGS)
            alone.command(cmd_name)(found)
            command = typer.main.get_command(alone)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List every command with its sentence, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, _, sentence) in COMMANDS.items()])


#: Where the command line's own words are kept while it is carried out.
_ARGUMENTS = "wellhead.arguments"

#: What the system says where a person has to mend the machine; anything else that it says is a mistake of ours.
_MENDED_HERE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
)


def _require_text(arguments: Iterable[str]) -> None:
    """Refuse bytes that are no text: no name in a registry, no document and no terminal could hold them."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
            raise UsageError(f"{shown} is not UTF-8 text", code=NOT_TEXT, hint="write the argument in UTF-8")


@contextmanager
def _machine() -> Iterator[None]:
    """Tell what the system denies a command in words, wherever it happened to be: a file, a folder, or room for it."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _MENDED_HERE:
            raise
        what = f"{exc.filename}: " if isinstance(exc.filename, str) else ""
        raise ConfigurationError(
            f"the system refuses it: {what}{exc.strerror}",
            code=DENIED_HERE,
            hint="check who may read and write it and the folder it is in, and that there is room",
        ) from exc


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120}

app = typer.Typer(
    name="wellhead",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)


@app.callback(help="Run data-source connectors as sealed, versioned containers.")
def program() -> None:
    """Hold the commands; there is nothing to do before one of them."""


class _WithoutPandas:
    """Says that pandas is not installed.

    Arrow imports it, where it is, at the first value it converts, to tell a list from a Series: 0.6 s of a run that
    holds neither. Nanoseconds would also become another type where it happens to be installed.
    """

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this program", name=fullname)


#: Objects made between two looks for cycles. Python's own 700 are reached hundreds of times while a run's modules are
#: imported, which all stay: a tenth of the time of the start.
COLLECT_AFTER = 20_000


def _keep_little() -> None:
    """Keep glibc's malloc from holding on to what batches took; has to come before the first thread.

    A batch passes through three threads, and with an arena each all three keep memory for it: 20 MiB of a run's peak.
    And malloc learns to keep blocks of the sizes that are freed: of batches of 16 MiB that was 40 MiB of the peak.
    Those of the usual size are below the bound, since asking the system for each of them slows a read by a twentieth.
    Other C libraries have neither arenas nor this call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


#: From here on a block is given back to the system as soon as it is free.
LARGE_BLOCK_BYTES = 8 * 1024 * 1024
#: Of malloc.h.
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


def main() -> None:
    """Run one command and exit with its code; every error of ours is told in words, never as a traceback."""
    gc.set_threshold(COLLECT_AFTER)
    _keep_little()
    sys.meta_path.insert(0, _WithoutPandas())
    try:
        app(prog_name="wellhead")
    except WellheadError as error:
        output.print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter would complain once more while it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    finally:
        # Everything is closed by now, and the process ends: without this the interpreter looks through every object
        # there is for cycles first, for a quarter of a second.
        gc.freeze()
