"""Release records and channels as files: added, never changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.catalog.conftest import Shop
from wellhead import replacement
from wellhead.catalog import pinned, records
from wellhead.catalog.records import Record
from wellhead.errors import ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest

AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
TINY = ConnectorId("dev/tiny")
OTHER = f"sha256:{'0' * 64}"


@pytest.fixture
def record(shop: Shop) -> Record:
    return records.of(shop.verify(shop.publish()), AT)


def test_a_record_says_what_was_released(shop: Shop, tmp_path: Path) -> None:
    built = shop.publish()
    record = records.of(shop.verify(built), AT)
    assert records.add(tmp_path / "manifests", record)
    file = tmp_path / "manifests" / "dev" / "tiny" / "1.0.0.yaml"
    image = built.images["linux/amd64"]
    assert file.read_text() == (
        "# Written when the release was published. Records are added, and never changed.\n"
        "format: 1\n"
        "connector: dev/tiny\n"
        "version: 1.0.0\n"
        "released_at: '2026-07-01T12:00:00Z'\n"
        f"digest: oci-index:{built.index_digest}\n"
        "platforms:\n"
        "  linux/amd64:\n"
        f"    manifest: oci-manifest:{image.manifest}\n"
        f"    image_id: oci-config:{image.config}\n"
        f"manifest: wellhead-manifest:sha256:{built.manifest_sha256}\n"
        "signed_by:\n"
        f"- {shop.key.public.id}\n"
        "state:\n"
        "  reads:\n"
        "  - 1\n"
        "  writes: 1\n"
    )
    assert [filed.record for filed in records.read(tmp_path / "manifests").records] == [record]


def test_the_same_release_again_changes_nothing_and_keeps_its_first_date(record: Record, tmp_path: Path) -> None:
    records.add(tmp_path, record)
    before = records.path(tmp_path, TINY, "1.0.0").read_bytes()
    assert not records.add(tmp_path, record.model_copy(update={"released_at": datetime.now(UTC)}))
    assert records.path(tmp_path, TINY, "1.0.0").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "field", "line"),
    [
        ({"digest": f"oci-index:{OTHER}"}, "digest", 6),
        ({"manifest": f"wellhead-manifest:{OTHER}"}, "manifest", 11),
        ({"signed_by": ()}, "signed_by", 12),
        ({"platforms": {}}, "platforms.linux/amd64.image_id", 10),
    ],
)
def test_a_record_that_says_something_else_is_never_overwritten(
    change: dict[str, object], field: str, line: int, record: Record, tmp_path: Path
) -> None:
    records.add(tmp_path, record)
    before = records.path(tmp_path, TINY, "1.0.0").read_bytes()
    with pytest.raises(RefusedError) as caught:
        records.add(tmp_path, record.model_copy(update=change))
    assert caught.value.code == records.OTHER_RECORD
    assert caught.value.place is not None
    assert (caught.value.place.field, caught.value.place.line) == (field, line)
    assert records.path(tmp_path, TINY, "1.0.0").read_bytes() == before


def test_other_bytes_are_refused_before_they_are_signed(record: Record, tmp_path: Path) -> None:
    records.require_same_digest(tmp_path, TINY, "1.0.0", Digest(OTHER))
    records.add(tmp_path, record)
    records.require_same_digest(tmp_path, TINY, "1.0.0", Digest(pinned.bare(record.digest)))
    with pytest.raises(RefusedError) as caught:
        records.require_same_digest(tmp_path, TINY, "1.0.0", Digest(OTHER))
    assert caught.value.code == records.OTHER_RECORD


@pytest.mark.parametrize(("place", "field"), [("dev/tiny/1.0.1.yaml", "version"), ("dev/huge/1.0.0.yaml", "connector")])
def test_a_record_under_another_name_is_refused(place: str, field: str, record: Record, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(records.render(record))
    with pytest.raises(ConfigurationError) as caught:
        records.read(tmp_path)
    assert caught.value.code == records.MISPLACED
    assert caught.value.place is not None
    assert caught.value.place.field == field


def test_a_folder_of_something_else_holds_no_records(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "licence.yaml").write_text("name: licence\n")
    with pytest.raises(ConfigurationError) as caught:
        records.read(tmp_path)
    assert caught.value.code == records.NO_RECORDS


def test_versions_are_added_to_a_channel_in_their_order_and_once(tmp_path: Path) -> None:
    assert [records.offer(tmp_path, TINY, "stable", version) for version in ("1.10.0", "1.2.0", "1.10.0")] == [
        True,
        True,
        False,
    ]
    assert records.offer(tmp_path, "acme/crm", "candidate", "2.0.0-rc.1")
    assert records.read(tmp_path).channels.channels == {
        "dev/tiny": {"stable": ("1.2.0", "1.10.0")},
        "acme/crm": {"candidate": ("2.0.0-rc.1",)},
    }


def test_what_people_wrote_into_channels_stays(tmp_path: Path) -> None:
    file = tmp_path / records.CHANNELS
    file.write_text("# ours\nformat: 1\nchannels:\n  dev/tiny:\n    stable: [1.0.0] # the first\n")
    records.offer(tmp_path, TINY, "stable", "1.1.0")
    assert file.read_text() == ("# ours\nformat: 1\nchannels:\n  dev/tiny:\n    stable: [1.0.0, 1.1.0] # the first\n")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("format: 1\nchannels:\n  dev/tiny:\n    stable: [one]\n", 4, "'one' is no semantic version"),
        ("format: 1\nchannels:\n  dev/tiny:\n    Stable: [1.0.0]\n", 4, "pattern"),
        ("format: 2\n", 1, "format"),
        ("format: 1\nchanels: {}\n", 2, "did you mean 'channels'?"),
    ],
)
def test_a_wrong_channels_file_is_refused_by_line_and_left_alone(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    file = tmp_path / records.CHANNELS
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        records.offer(tmp_path, TINY, "stable", "1.0.0")
    assert words in caught.value.message
    assert caught.value.place is not None
    assert (caught.value.place.file, caught.value.place.line) == (str(file), line)
    assert file.read_text() == text


def test_of_two_offers_at_once_neither_is_lost(tmp_path: Path) -> None:
    file = tmp_path / records.CHANNELS
    with ThreadPoolExecutor(1) as pool:
        with replacement.exclusive(file, pinned.UNWRITABLE):
            other = pool.submit(records.offer, tmp_path, TINY, "stable", "1.1.0")
            # It has to wait for the lock all that time; without one it would be done.
            wait([other], 0.5)
            pinned.write(file, b"format: 1\nchannels:\n  dev/tiny:\n    stable: [1.0.0]\n")
        assert other.result()
    assert records.read(tmp_path).channels.channels == {"dev/tiny": {"stable": ("1.0.0", "1.1.0")}}


def test_of_two_records_of_a_version_at_once_the_second_is_compared_with_the_first(
    record: Record, tmp_path: Path
) -> None:
    file = records.path(tmp_path, TINY, "1.0.0")
    file.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with replacement.exclusive(file, pinned.UNWRITABLE):
            other = pool.submit(records.add, tmp_path, record.model_copy(update={"digest": f"oci-index:{OTHER}"}))
            wait([other], 0.5)
            pinned.write(file, records.render(record))
        with pytest.raises(RefusedError) as caught:
            other.result()
    assert caught.value.code == records.OTHER_RECORD
    assert file.read_bytes() == records.render(record)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "manifests").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        records.offer(tmp_path / "manifests", TINY, "stable", "1.0.0")
    assert caught.value.code == pinned.UNWRITABLE
