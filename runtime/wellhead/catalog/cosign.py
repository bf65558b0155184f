"""Our signatures once more, in the form that `cosign verify --key` checks offline.

For the index and for each image in it there is one manifest under the tag ``sha256-<hex>.sig``; each of its layers is a
payload naming the digest, with the signature over these bytes as an annotation. Nothing here is read when a release is
verified: the statement that counts says more (`wellhead.catalog.signature`). It is for other people's tools.

Sources: sigstore/cosign specs/SIGNATURE_SPEC.md; containers/image docs/containers-signature.5.md.
"""

from __future__ import annotations

import base64

from wellhead.catalog.keys import PrivateKey
from wellhead.ids import ConnectorId, Digest
from wellhead.images import naming, oci
from wellhead.images.store import Store

PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"


def payload(connector: ConnectorId, digest: Digest) -> bytes:
    """Return the bytes that are signed; the reference is the connector's id, as a release may lie in any registry."""
    return oci.canonical(
        {
            "critical": {
                "identity": {"docker-reference": connector},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )


def attach(store: Store, connector: ConnectorId, digest: Digest, *keys: PrivateKey) -> None:
    """Sign ``digest`` with each key and put the signatures beside it; earlier ones are replaced."""
    shelf = store.shelf(connector)
    signed = payload(connector, digest)
    layers = [
        shelf.put(signed, PAYLOAD, annotations={SIGNATURE: base64.b64encode(key.sign(signed)).decode()}) for key in keys
    ]
    # What cosign itself writes as the config of a signature: an image of these layers that nobody runs.
    described = {
        "architecture": "",
        "config": {},
        "created": "0001-01-01T00:00:00Z",
        "history": [],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [item.digest for item in layers]},
    }
    document = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": shelf.put(oci.canonical(described), oci.CONFIG).document(),
        "layers": [item.document() for item in layers],
    }
    artifact = shelf.put(oci.canonical(document), oci.MANIFEST)
    store.name(naming.name_of(connector, naming.about(digest, ".sig")), artifact)
