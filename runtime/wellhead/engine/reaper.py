"""Removing what runs left behind: of hosts that died, and, for `wellhead clean`, of everybody.

Whether a run still lives is not for this module to know; it is told. Order: containers, then networks, which containers
hold, then folders, which containers have mounted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wellhead.engine import folders
from wellhead.engine.client import Engine
from wellhead.engine.container import PREFIX, Labels
from wellhead.errors import WellheadError

#: On networks and images that belong to the host and no run: removed by `clean` alone.
KEPT = PREFIX + "kept"


@dataclass(frozen=True, slots=True)
class Reaped:
    """What was removed, by name, and what was not, with the reason."""

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    folders: tuple[str, ...]
    images: tuple[str, ...]
    left: tuple[str, ...]

    def and_also(self, other: Reaped) -> Reaped:
        """Return what both removed and left."""
        return Reaped(
            self.containers + other.containers,
            self.networks + other.networks,
            self.folders + other.folders,
            self.images + other.images,
            self.left + other.left,
        )


def reap(engine: Engine, is_alive: Callable[[Labels], bool], root: Path) -> Reaped:
    """Remove the containers, networks and folders of every run for which ``is_alive`` says False.

    One thing that cannot be removed does not keep the rest; it is named in ``left``. Nothing is raised but what listing
    raises.

    Args:
        engine: where to look.
        is_alive: asked once for each thing; what it says of another host's run counts as well.
        root: where this host keeps its run folders.
    """
    work = _Work()
    for container, labels in engine.containers():
        if not is_alive(labels):
            work.do("containers", container.name, container.remove)
    for network in engine.networks():
        if network.labels is not None and not is_alive(network.labels):
            work.do("networks", network.name, partial(engine.remove_network, network.id))
    for folder in folders.existing(root):
        if not is_alive(folder.labels):
            work.do("folders", str(folder.path), partial(folders.remove, engine, folder))
    return work.result()


def is_in_use(engine: Engine, root: Path) -> bool:
    """Say whether anything of any run, of whatever project, is left: its folder and its network come first."""
    networks = any(network.labels is not None for network in engine.networks())
    return networks or bool(engine.containers()) or bool(folders.existing(root))


def remove_kept(engine: Engine) -> Reaped:
    """Remove the networks and images that belong to the host and no run."""
    work = _Work()
    for network in engine.kept_networks(KEPT):
        work.do("networks", network.name, partial(engine.remove_network, network.id))
    for image_id in engine.labelled_images(KEPT):
        work.do("images", image_id, partial(engine.remove_image, image_id))
    return work.result()


def remove_images(engine: Engine, ids: Collection[str]) -> Reaped:
    """Remove those of some images that the Engine has and no container was made from."""
    work = _Work()
    for image_id in sorted(engine.unused_images() & set(ids)):
        work.do("images", image_id, partial(engine.remove_image, image_id))
    return work.result()


class _Work:
    def __init__(self) -> None:
        self._removed: dict[str, list[str]] = {"containers": [], "networks": [], "folders": [], "images": []}
        self._left: list[str] = []

    def do(self, kind: str, name: str, remove: Callable[[], None]) -> None:
        try:
            remove()
        except WellheadError as exc:
            self._left.append(f"{name}: {exc.message}")
        except OSError as exc:
            self._left.append(f"{name}: {exc.strerror}")
        else:
            self._removed[kind].append(name)

    def result(self) -> Reaped:
        removed = {kind: tuple(names) for kind, names in self._removed.items()}
        return Reaped(**removed, left=tuple(self._left))
