"""What a site's checkpoint holds, and how a site goes on from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palaver.errors import PalaverError
from palaver.peers import checkpoint
from palaver.peers.links import Seen

if TYPE_CHECKING:
    from palaver.peers.site import Site


def saved(site: Site) -> checkpoint.Saved:
    """Everything that a restart needs."""
    arrays, about = site.peer.arrays(), site.peer.about()
    if site.twin is not None:
        arrays |= {f"twin.{name}": array for name, array in site.twin.arrays().items()}
        about["twin"] = site.twin.about()
    names = site.peer.agreement.names
    seen = {names[sender]: seen.to_json() for sender, seen in site.seen.items()}
    about |= {"collective": site.collective.hex(), "examples": site.examples, "seen": seen}
    return checkpoint.Saved(arrays, about)


def restore(site: Site, found: checkpoint.Saved) -> None:
    """Goes on from a checkpoint.

    Args:
        site: that has begun nothing.
        found: from ``checkpoint.restore``.

    Raises:
        PalaverError: it is of another description, reference set, data set, or model; the site may then have a part of
            it, and is not to be used.

    """
    about, names, folder = found.about, site.peer.agreement.names, site.conduct.folder
    if about["collective"] != site.collective.hex():
        raise PalaverError(
            f"{folder} has checkpoints of a collective with another description or reference set "
            f"({about['collective']}, here {site.collective.hex()}): give those settings and that data, or "
            "another folder, in which the site learns anew"
        )
    if about.get("examples") != site.examples:
        raise PalaverError(
            f"{folder} has checkpoints of a site with other examples: give those that it had, or another folder, in "
            "which the site learns anew"
        )
    parts = {name.removeprefix("twin."): a for name, a in found.arrays.items() if name.startswith("twin.")}
    try:
        site.peer.restore(found.arrays, about)
        if site.twin is not None:
            site.twin.restore(parts, about["twin"])
    except (ValueError, KeyError) as error:
        raise PalaverError(
            f"{folder} has checkpoints of another model or optimiser ({error}): give the model that it had, or another "
            "folder"
        ) from None
    site.seen = {names.index(name): Seen.from_json(seen) for name, seen in about["seen"].items()}
