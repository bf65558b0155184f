"""Layers: the same files give the same bytes, whatever the machine did to them."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path, PurePosixPath

from wellhead.images import layer


def tree(folder: Path, mtime: int, mask: int) -> Path:
    (folder / "pkg" / "empty").mkdir(parents=True)
    (folder / "pkg" / "b.py").write_text("b = 2\n")
    (folder / "pkg" / "a.py").write_text("a = 1\n")
    (folder / "run").write_text("#!\n")
    (folder / "link").symlink_to("pkg/a.py")
    for file in (folder / "pkg/a.py", folder / "pkg/b.py"):
        file.chmod(0o600 | mask)
        os.utime(file, (mtime, mtime))
    (folder / "run").chmod(0o700 | mask)
    return folder


def written(folder: Path) -> bytes:
    out = io.BytesIO()
    layer.write(layer.walk(folder, PurePosixPath("opt/x")), out)
    return out.getvalue()


def test_times_and_modes_of_the_machine_leave_no_trace(tmp_path: Path) -> None:
    first = written(tree(tmp_path / "one", 1, 0o000))
    second = written(tree(tmp_path / "deeper" / "two", 1_700_000_000, 0o066))
    assert first == second


def test_every_member_is_roots_with_one_time_and_a_plain_mode(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(tree(tmp_path / "one", 1, 0)))) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime) for member in members} == {
        (0, 0, "", "", layer.EPOCH)
    }
    assert {member.name: oct(member.mode) for member in members} == {
        "opt": "0o755",
        "opt/x": "0o755",
        "opt/x/link": "0o777",
        "opt/x/pkg": "0o755",
        "opt/x/pkg/a.py": "0o644",
        "opt/x/pkg/b.py": "0o644",
        "opt/x/pkg/empty": "0o755",
        "opt/x/run": "0o755",
    }


def test_the_order_of_entries_does_not_matter() -> None:
    entries = [layer.Entry.file("a/b", b"1"), layer.Entry.file("a/c", b"2"), layer.Entry.link("a/d", "c")]
    out, turned = io.BytesIO(), io.BytesIO()
    layer.write(entries, out)
    layer.write(reversed(entries), turned)
    assert out.getvalue() == turned.getvalue()


def test_what_an_image_cannot_hold_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [entry.name for entry in layer.walk(tmp_path, PurePosixPath("x"))] == ["x"]


def test_packing_names_both_digests_and_repeats_itself(tmp_path: Path) -> None:
    content = b"layer" * 100_000
    packed = layer.pack(io.BytesIO(content), tmp_path / "one.gz")
    again = layer.pack(io.BytesIO(content), tmp_path / "two.gz")
    assert packed.diff_id == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert packed.digest == f"sha256:{hashlib.sha256((tmp_path / 'one.gz').read_bytes()).hexdigest()}"
    assert packed.size == (tmp_path / "one.gz").stat().st_size
    assert gzip.decompress((tmp_path / "one.gz").read_bytes()) == content
    assert (packed.digest, packed.diff_id) == (again.digest, again.diff_id)
