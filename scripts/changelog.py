"""Assemble changelog.d/ into CHANGELOG.md under a version, and remove the fragments: `changelog.py VERSION`.

A fragment is `NAME.KIND.md` and holds what a user will care about: one item, or several that begin with "- ".
Any Python 3.11 runs this.
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADING = "# Changes\n"
KINDS = {"breaking": "Breaking", "security": "Security", "added": "Added", "changed": "Changed", "fixed": "Fixed"}


def assemble(fragments: dict[str, str], version: str, day: datetime.date) -> str:
    """Render one version's section from fragments by file name.

    Raises:
        ValueError: a name is not ``NAME.KIND.md`` with a known kind, or a fragment is empty.
    """
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name, text in sorted(fragments.items()):
        parts = name.split(".")
        if len(parts) != 3 or parts[1] not in KINDS or parts[2] != "md" or not text.strip():
            raise ValueError(f"changelog.d/{name}: wanted NAME.{'|'.join(KINDS)}.md with a sentence in it")
        items = re.split(r"^- ", text, flags=re.MULTILINE)
        by_kind[parts[1]] += [" ".join(item.split()) for item in items if item.strip()]
    lines = [f"## {version} ({day.isoformat()})"]
    for kind, sentences in by_kind.items():
        if sentences:
            lines += ["", f"### {KINDS[kind]}", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def main(version: str) -> int:
    """Write CHANGELOG.md, newest version first."""
    folder, file = ROOT / "changelog.d", ROOT / "CHANGELOG.md"
    found = sorted(folder.glob("*.md"))
    if not version or not found:
        print("nothing to assemble: give VERSION=, and fragments in changelog.d/", file=sys.stderr)
        return 2
    section = assemble(
        {path.name: path.read_text() for path in found}, version, datetime.datetime.now(datetime.UTC).date()
    )
    older = file.read_text().removeprefix(HEADING) if file.exists() else ""
    file.write_text(f"{HEADING}\n{section}{older}")
    for path in found:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
