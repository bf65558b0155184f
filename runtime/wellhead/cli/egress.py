"""``wellhead egress``: what a policy would say, offline, by the very code the gateway runs."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from wellhead.cli import output
from wellhead.egress import address
from wellhead.egress.policy import Policy
from wellhead.errors import Code, ConfigurationError, UsageError

NOT_A_RANGE = Code("WH-CLI-040", "A range given on the command line is not a CIDR.")
NOT_A_PAIR = Code("WH-CLI-041", "A NAME=VALUE or HOST:PORT given on the command line is not one.")
NOT_TEXT = Code("WH-CLI-042", "Standard input is not UTF-8 text.")

DEFAULT_PORT = 443

app = typer.Typer(no_args_is_help=True, help="Explain what a run may reach, without running it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one object a line: input, verdict, reason.")]


@dataclass(frozen=True, slots=True)
class Answer:
    """One verdict as it is printed."""

    input: str
    verdict: str
    reason: str


@app.command()
def check(
    manifest: Annotated[Path, typer.Option("--manifest", metavar="FILE", help="The connector's manifest.yaml.")],
    host: Annotated[
        list[str] | None, typer.Argument(metavar="HOST[:PORT]...", help="443 if no port; none: read from stdin.")
    ] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the connection's config.")
    ] = None,
    approve: Annotated[
        list[str] | None, typer.Option("--approve", metavar="HOST:PORT", help="As if an operator had approved it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say for each host whether a connection with this manifest could reach it.

    What an allowed name resolves to is judged again at every connect; `wellhead egress classify` explains that part.
    """
    policy = _policy(manifest, values or [], approve or [])
    _answer_all(host, lambda case: _judge(policy, case), as_json)


@app.command()
def classify(
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="ADDRESS...", help="IPv4 or IPv6; none: read from stdin.")
    ] = None,
    grant: Annotated[
        list[str] | None, typer.Option("--grant", metavar="CIDR", help="A private range the operator opened.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say for each address whether a connector may reach it."""
    grants = [_network(text) for text in grant or []]

    def judge(case: str) -> tuple[bool, str]:
        verdict = address.classify_text(case, grants)
        return verdict.allowed, verdict.reason

    _answer_all(addresses, judge, as_json)


def _answer_all(given: list[str] | None, judge: Callable[[str], tuple[bool, str]], as_json: bool) -> None:
    for case in given or _lines():
        allowed, reason = judge(case)
        answer = Answer(case, "allow" if allowed else "deny", reason)
        if as_json:
            output.print_json({"input": answer.input, "verdict": answer.verdict, "reason": answer.reason})
        else:
            sys.stdout.write(f"{answer.verdict:5}  {answer.input!s}  {answer.reason}\n")


def _lines() -> Iterable[str]:
    """Yield standard input line by line; each line is a case, an empty one too, and only its end is taken off."""
    for line in sys.stdin.buffer:
        try:
            yield line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as exc:
            raise UsageError(
                f"standard input is not UTF-8 text: {exc.reason} in {line[:40]!r}",
                code=NOT_TEXT,
                hint="give one case a line, in UTF-8",
            ) from exc


def _judge(policy: Policy, case: str) -> tuple[bool, str]:
    host, port = split(case)
    if port is None:
        return False, "invalid_port"
    decision = policy.decide(host, port)
    return decision.allowed, decision.reason


def split(case: str) -> tuple[str, int | None]:
    """Split ``HOST[:PORT]``; the port is None where what follows the colon is not a number.

    Text with several colons and no brackets is left whole: it is an IPv6 address, or nothing.
    """
    if case.startswith("[") and "]" in case:
        host, _, rest = case[1:].partition("]")
        host, colon, number = f"[{host}]", rest[:1], rest[1:]
        if rest and colon != ":":
            return case, DEFAULT_PORT
    elif case.count(":") == 1:
        host, colon, number = case.partition(":")
    else:
        return case, DEFAULT_PORT
    if not colon:
        return host, DEFAULT_PORT
    if not (number.isascii() and number.isdecimal() and len(number) <= 5):
        return host, None
    return host, int(number)


def _policy(manifest: Path, values: list[str], approvals: list[str]) -> Policy:
    """Render the manifest's entries one by one; one that cannot be rendered opens nothing, and standard error says why.

    Raises:
        UsageError: the manifest cannot be read, or an option is not what it must be.
    """
    # Here, not above: pydantic and the YAML reader cost what `wellhead --help` need not pay.
    from wellhead.egress.network import policy_of
    from wellhead.manifest import config as configs
    from wellhead.manifest import egress as rendering
    from wellhead.manifest import load

    given = dict(_pair(text) for text in values)
    approved = [_approval(text) for text in approvals]
    try:
        read = load.load(manifest).manifest
    except ConfigurationError as exc:
        raise UsageError(exc.message, code=exc.code, hint=exc.hint, place=exc.place, details=exc.details) from exc
    # What else the config lacks does not matter here; what an entry needs and lacks is told below.
    config = configs.config_errors(read, configs.worded(read, given)).values
    entries: list[rendering.EgressEntry] = []
    for entry in read.network.egress:
        alone = read.model_copy(update={"network": read.network.model_copy(update={"egress": (entry,)})})
        try:
            entries += rendering.render_egress(alone, config)
        except ConfigurationError as exc:
            output.stderr().print(f"{entry.host} opens nothing: {exc.message} ({exc.hint})", markup=False)
    return policy_of(entries, approved)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {text!r} is not NAME=VALUE", code=NOT_A_PAIR, hint="write --set host=db.example.com")
    return name, value


def _approval(text: str) -> tuple[str, int]:
    host, port = split(text)
    if ":" not in text or port is None:
        raise UsageError(
            f"--approve {text!r} is not HOST:PORT", code=NOT_A_PAIR, hint="write --approve db.example.com:5432"
        )
    return host, port


def _network(text: str) -> address.Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise UsageError(
            f"--grant {text!r} is not a range: {exc}", code=NOT_A_RANGE, hint="write --grant 10.1.2.0/24"
        ) from exc
