"""One of several processes that publish at once: `python -m tests.integration.stores.writer ORDER NUMBER OF`."""

import json
import sys
from pathlib import Path

from tests.integration.stores import releases
from tests.integration.stores.test_many import RELEASES
from tests.oci_registry import USERNAME
from wellhead.catalog import keys
from wellhead.images.layout import Layout
from wellhead.images.registry import Registry
from wellhead.images.store import Store
from wellhead.images.transport import Credentials


def main() -> None:
    order, number, of = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if "address" in order:
        target: Store = Registry(order["address"], Credentials(USERNAME, order["password"]), Path(order["ca"]))
    else:
        target = Layout.open(Path(order["folder"]))
    key = keys.load_private(Path(order["key"]))
    published = {}
    for connector, version in RELEASES[number::of]:
        scratch = Path(order["scratch"]) / f"{connector.replace('/', '-')}-{version}"
        scratch.mkdir()
        built = releases.publish(scratch, connector, version, key, target)
        published[f"{connector}:{version}"] = built.index_digest
    sys.stdout.write(json.dumps(published))


if __name__ == "__main__":
    main()
