from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wellhead.ids import ConnectionKey
from wellhead.secrets import policies
from wellhead.secrets.base import Reference
from wellhead.settings import VaultSettings

_names = st.text(alphabet=st.sampled_from("abAB-._ /é"), min_size=1, max_size=4)
_keys = st.builds(ConnectionKey, tenant=_names, project=_names, name=_names)


@given(_keys, _keys)
def test_two_connections_never_share_a_policy(one: ConnectionKey, other: ConnectionKey) -> None:
    names = {policies.connection_policy_name("wellhead-", key).lower() for key in (one, other)}
    assert len(names) == len({one, other})


def test_a_connections_policy_reads_its_own_paths_and_nothing_else() -> None:
    references = [
        Reference.parse("vault://kv/team/pg#password"),
        Reference.parse("vault://kv/team/pg#username"),
        Reference.parse("vault-dyn://database/creds/ro#username"),
        Reference.parse("env://IGNORED"),
    ]
    policy = policies.connection_policy("wellhead-", ConnectionKey("acme", "data", "flights"), references)
    assert policy.name == "wellhead-c-acme.data.flights"
    assert policy.hcl == (
        'path "database/creds/ro" {\n  capabilities = ["read"]\n}\n'
        'path "kv/data/team/pg" {\n  capabilities = ["read"]\n}\n'
    )


def test_the_script_leaves_out_database_roles_where_no_reference_is_dynamic() -> None:
    vault = VaultSettings(address="https://vault.example:8200", token_file="token")
    key = ConnectionKey("acme", "data", "flights")
    script = policies.instructions(vault, key, [Reference.parse("vault://kv/pg#password")], "public")
    assert "auth/token/roles/wellhead-run" in script
    assert "/roles/ro" not in script
    assert "DATABASE" not in script
