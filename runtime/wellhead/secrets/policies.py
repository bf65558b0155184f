"""What a Vault administrator must create before a connection can borrow its secrets, as values and as text.

host's token ── may only ──> mint through the token role, revoke by accessor
token role   ── allows  ──> <prefix>c-* and <prefix>self, orphan tokens, never root or default
run's token  ── carries ──> <prefix>self + <prefix>c-<tenant>.<project>.<connection>: these paths, reading only
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from wellhead.ids import ConnectionKey
from wellhead.secrets.base import Reference, Scheme
from wellhead.settings import VaultSettings

#: The longest a run's token lives even when renewed; a run's total deadline is well below.
EXPLICIT_MAX_TTL = "24h"

_PLAIN = re.compile(r"[a-z0-9-]")


@dataclass(frozen=True, slots=True)
class Policy:
    """A named policy in Vault's HCL."""

    name: str
    hcl: str


def connection_policy_name(prefix: str, key: ConnectionKey) -> str:
    """Name the policy of one connection; two connections never share a name.

    Vault folds names to lower case, so whatever is not a plain letter, digit or hyphen is written as ``_`` and hex.
    """
    parts = (key.tenant, key.project, key.name)
    return f"{prefix}c-" + ".".join(
        "".join(char if _PLAIN.fullmatch(char) else f"_{char.encode().hex()}_" for char in part) for part in parts
    )


def self_policy_name(prefix: str) -> str:
    """Name the policy by which every run's token may renew and revoke itself."""
    return f"{prefix}self"


def api_path(reference: Reference) -> str:
    """Return the path Vault reads for ``reference``: KV version 2 keeps values below ``data/``."""
    if reference.scheme is Scheme.KEY_VALUE:
        return f"{reference.mount}/data/{reference.path}"
    return f"{reference.mount}/{reference.path}"


def connection_policy(prefix: str, key: ConnectionKey, references: Iterable[Reference]) -> Policy:
    """Allow reading exactly the paths that ``references`` name."""
    paths = sorted({api_path(reference) for reference in references if reference.mount})
    return Policy(connection_policy_name(prefix, key), "".join(_rule(path, "read") for path in paths))


def self_policy(prefix: str) -> Policy:
    """Allow a run's token to extend and end its own life and leases.

    Without the ``default`` policy, which the token role forbids, a token may not even revoke itself.
    """
    own = ("auth/token/renew-self", "auth/token/revoke-self", "sys/leases/renew", "sys/leases/revoke")
    return Policy(self_policy_name(prefix), "".join(_rule(path, "update") for path in own))


def host_policy(vault: VaultSettings) -> Policy:
    """Allow the host to mint run tokens and to revoke them by accessor, and to read no secret at all."""
    may = (f"auth/token/create/{vault.token_role}", "auth/token/revoke-accessor", "auth/token/revoke-self")
    rules = "".join(_rule(path, "update") for path in may) + _rule("auth/token/lookup-self", "read")
    return Policy(f"{vault.policy_prefix}host", rules)


def token_role(vault: VaultSettings) -> dict[str, object]:
    """Return the fields of the role that mints run tokens.

    Orphan, so that the end of the host's own login does not end the runs it started.
    """
    return {
        "allowed_policies": [self_policy_name(vault.policy_prefix)],
        "allowed_policies_glob": [f"{vault.policy_prefix}c-*"],
        "disallowed_policies": ["root", "default"],
        "token_no_default_policy": True,
        "orphan": True,
        "renewable": True,
        "token_type": "service",
        "token_explicit_max_ttl": EXPLICIT_MAX_TTL,
    }


def database_role(schema: str) -> dict[str, object]:
    """Return the fields of a PostgreSQL role of Vault's database engine that may only read ``schema``.

    The revocation ends open sessions first: DROP ROLE alone leaves them alive, and fails on objects they own.
    """
    quoted = '"' + schema.replace('"', '""') + '"'
    return {
        "creation_statements": [
            "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
            f'GRANT USAGE ON SCHEMA {quoted} TO "{{{{name}}}}"',
            f'GRANT SELECT ON ALL TABLES IN SCHEMA {quoted} TO "{{{{name}}}}"',
        ],
        "renew_statements": ["ALTER ROLE \"{{name}}\" VALID UNTIL '{{expiration}}'"],
        "revocation_statements": [
            'ALTER ROLE "{{name}}" NOLOGIN',
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}'",
            'DROP OWNED BY "{{name}}"',
            'DROP ROLE IF EXISTS "{{name}}"',
        ],
        "default_ttl": "1h",
        "max_ttl": EXPLICIT_MAX_TTL,
    }


def instructions(vault: VaultSettings, key: ConnectionKey, references: Iterable[Reference], schema: str) -> str:
    """Write the shell script an administrator runs once: policies, the token role, and one database role per path.

    ``DATABASE`` in it is left for the administrator: the name of the configured connection of the database engine.
    """
    references = tuple(references)
    policies = (
        host_policy(vault),
        self_policy(vault.policy_prefix),
        connection_policy(vault.policy_prefix, key, references),
    )
    lines = ["# Policies: the host mints tokens and reads nothing; a run's token reads its own paths."]
    lines += [f"bao policy write {shlex.quote(policy.name)} - <<'HCL'\n{policy.hcl}HCL" for policy in policies]
    lines += ["", "# The role through which the host mints one token a run."]
    lines.append(_write(f"auth/token/roles/{vault.token_role}", token_role(vault)))
    for path in sorted({f"{ref.mount}/{ref.path}" for ref in references if ref.scheme is Scheme.DYNAMIC}):
        mount, _, role = path.partition("/creds/")
        if role:
            lines += ["", f"# The database role behind vault-dyn://{path}; put your connection's name for DATABASE."]
            lines.append(_write(f"{mount}/roles/{role}", {"db_name": "DATABASE", **database_role(schema)}))
    return "\n".join(lines) + "\n"


def _write(path: str, fields: dict[str, object]) -> str:
    return f"bao write {shlex.quote(path)} - <<'JSON'\n{json.dumps(fields, indent=2)}\nJSON"


def _rule(path: str, capability: str) -> str:
    return f'path "{path}" {{\n  capabilities = ["{capability}"]\n}}\n'
