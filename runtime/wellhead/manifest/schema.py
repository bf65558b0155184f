"""The JSON Schema of ``manifest.yaml``, made from the model; editors and other languages read it."""

from __future__ import annotations

import json

from wellhead.manifest.model import Manifest

#: Where the published copy lies in the repository; a test compares it with `text`.
PATH = "manifests/schema/connector-manifest.v1.json"


def text() -> str:
    """Return the schema as JSON text, with a final newline."""
    schema = Manifest.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "connector-manifest.v1.json", **schema}
    # Extension keys are allowed wherever keys are closed; a plain dict stays open anyway.
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
