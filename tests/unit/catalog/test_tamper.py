"""Every way to change a release after it was signed is refused, and the message names the broken link."""

from typing import Any

import pytest

from tests.tampering import CASES, Case, Victim
from wellhead.catalog import trust, verify
from wellhead.errors import RefusedError
from wellhead.images import engine_tar

PLATFORM = "linux/amd64"


def launch(victim: Victim) -> None:
    """Verify a release and read its image, as a host does that has not loaded it yet."""
    trusted = trust.load(victim.trust_file)
    verify.verify_release(victim.store, victim.digest, victim.connector, victim.version, trusted)
    for _ in engine_tar.chunks(victim.store, victim.digest, victim.platform):
        pass


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_changed_release_is_refused_by_the_name_of_its_broken_link(shop: Any, case: Case) -> None:
    built = shop.publish()
    file = shop.folder / "trust.yaml"
    victim = Victim(
        shop.store, built.connector, built.version, built.index_digest, PLATFORM, shop.key, file, shop.folder
    )
    case.do(victim)
    with pytest.raises(RefusedError) as caught:
        launch(victim)
    assert caught.value.code.name == case.code
    assert caught.value.exit_code == 76
    assert case.where in caught.value.message
    assert caught.value.hint


def test_there_are_at_least_forty_cases_and_each_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40
