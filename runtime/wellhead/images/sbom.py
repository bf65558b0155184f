"""What a release is made of, as CycloneDX 1.6: Python distributions and Debian packages, with their licences.

No serial number and no time, so that the list is as reproducible as what it lists. It is read off the images
themselves: METADATA files, dpkg's status and Debian's copyright files.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from wellhead.images import oci
from wellhead.manifest.load import LoadedManifest

#: What the child of a release index is called.
ROLE = "sbom"
MEDIA_TYPE = "application/vnd.cyclonedx+json"

_STATUS = "var/lib/dpkg/status"
_COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")
_DOCUMENTATION = re.compile(r"usr/share/doc/([^/]+)")
_METADATA = re.compile(r"(?:.*/)?[^/]+\.dist-info/METADATA")
#: The line that opens a licence in a machine-readable copyright file; text of a licence is indented.
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)
_CLASSIFIER = "License :: OSI Approved :: "
#: Larger ones are no METADATA, status or copyright file of anybody.
_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """One distribution or package of an image.

    ``licences`` are names as their source writes them, sorted; a single one that is an SPDX expression is marked.
    """

    kind: Literal["deb", "pypi"]
    name: str
    version: str
    licences: tuple[str, ...] = ()
    is_expression: bool = False
    architecture: str = ""

    @property
    def purl(self) -> str:
        """Return its package URL."""
        if self.kind == "deb":
            return f"pkg:deb/debian/{self.name}@{_quoted(self.version)}?arch={self.architecture}"
        return f"pkg:pypi/{self.name.lower().replace('_', '-')}@{_quoted(self.version)}"


def python(metadata: bytes) -> Component:
    """Read the METADATA file of an installed distribution."""
    headers = HeaderParser().parsestr(metadata.decode("utf-8", errors="replace"))
    name, version = headers["Name"] or "unknown", headers["Version"] or "0"
    if headers["License-Expression"]:
        return Component("pypi", name, version, (headers["License-Expression"],), is_expression=True)
    classified = [text for text in headers.get_all("Classifier", []) if text.startswith(_CLASSIFIER)]
    said = [text.removeprefix(_CLASSIFIER) for text in classified] or [headers["License"] or ""]
    # Some put the whole text there.
    return Component("pypi", name, version, tuple(sorted({text for text in said if text and "\n" not in text})))


def debian(status: bytes, copyrights: dict[str, bytes]) -> list[Component]:
    """Return the packages of a dpkg status file, with the licences their machine-readable copyright files name.

    Args:
        status: the file's bytes.
        copyrights: package → its copyright file.
    """
    found = []
    for paragraph in status.decode("utf-8", errors="replace").split("\n\n"):
        fields = HeaderParser().parsestr(paragraph.strip())
        if fields["Package"] and fields["Version"]:
            text = copyrights.get(fields["Package"], b"").decode("utf-8", errors="replace")
            # Others than machine-readable ones are prose.
            licences = set(_LICENCE.findall(text)) if text.startswith("Format") else set()
            named = tuple(sorted(name.strip() for name in licences))
            architecture = fields["Architecture"] or "all"
            found.append(Component("deb", fields["Package"], fields["Version"], named, architecture=architecture))
    return found


def of_layers(tars: Iterable[Path]) -> set[Component]:
    """Return what the unpacked layers of one image hold, bottom first; the topmost dpkg status counts."""
    found: set[Component] = set()
    status = b""
    copyrights: dict[str, bytes] = {}
    for file in tars:
        links: dict[str, str] = {}
        with tarfile.open(file) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.issym() and (shared := _DOCUMENTATION.fullmatch(name)):
                    links[shared[1]] = PurePosixPath(member.linkname).name
                if not member.isfile() or member.size > _MAX_BYTES:
                    continue
                if _METADATA.fullmatch(name):
                    found.add(python(_content(tar, member)))
                elif name == _STATUS:
                    status = _content(tar, member)
                elif package := _COPYRIGHT.fullmatch(name):
                    copyrights[package[1]] = _content(tar, member)
        copyrights |= {name: copyrights[target] for name, target in links.items() if target in copyrights}
    return found | set(debian(status, copyrights))


def document(loaded: LoadedManifest, components: Iterable[Component]) -> dict[str, Any]:
    """Return the list of a release's components, sorted."""
    metadata = loaded.manifest.metadata
    described: dict[str, Any] = {"type": "container", "name": metadata.id, "version": metadata.version}
    described["licenses"] = [{"license": {"name": metadata.license}}]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": described},
        "components": [_component(part) for part in sorted(set(components))],
    }


def components(bill: Mapping[str, Any], what: str) -> tuple[Mapping[str, Any], ...]:
    """Return what a list names, each with name and version and the licences it has.

    Args:
        bill: the document.
        what: how the message names it.

    Raises:
        RefusedError: WH-IMG-014, a component has another form.
    """
    found = oci.items(bill, "components", what)
    for number, part in enumerate(found):
        field = f"components[{number}]"
        match part:
            case {"name": str(), "version": str()}:
                for entry in oci.items(part, "licenses", f"{what}, {field}"):
                    match entry:
                        case {"expression": str()}:
                            pass
                        case {"license": {"name": str()}} if "expression" not in entry:
                            pass
                        case _:
                            raise oci.wrong_form(what, f"{field}.licenses", "holds no expression and no name")
            case _:
                raise oci.wrong_form(what, field, "does not name a component and its version")
    return tuple(found)


def _component(part: Component) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "library", "name": part.name, "version": part.version}
    item["purl"] = item["bom-ref"] = part.purl
    if part.is_expression:
        item["licenses"] = [{"expression": part.licences[0]}]
    elif part.licences:
        item["licenses"] = [{"license": {"name": name}} for name in part.licences]
    return item


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _quoted(version: str) -> str:
    return version.replace("+", "%2B").replace(":", "%3A")
