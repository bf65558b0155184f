"""The manifest is what a connection is checked against, the model what the connector takes: they must agree."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from wellhead.errors import ConfigurationError
from wellhead.manifest import config, lint, load
from wellhead_csv_file.config import CsvFileConfig

HERE = Path(__file__).parent.parent
LOADED = load.load(HERE)


def test_the_manifest_has_no_findings_and_the_version_of_the_package() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert lint.lint(LOADED) == []
    assert project["version"] == LOADED.manifest.metadata.version


def test_schema_and_model_know_the_same_parameters_and_defaults() -> None:
    properties = LOADED.manifest.config.properties
    model = CsvFileConfig.model_json_schema()["properties"]
    assert set(properties) == set(model)
    filled = config.checked(LOADED.manifest, {"path": "/data/in/a.csv"})
    assert CsvFileConfig.model_validate(filled) == CsvFileConfig(path="/data/in/a.csv")


def test_every_missing_or_ill_typed_parameter_is_told_at_once() -> None:
    wrong = {"delimiter": ";;", "has_header": "perhaps", "types": "guess", "separator": {}}
    with pytest.raises(ConfigurationError) as caught:
        config.checked(LOADED.manifest, wrong)
    told = " ".join(caught.value.details)
    assert all(name in told for name in ("path", "delimiter", "has_header", "types", "separator"))


def test_types_are_normalised() -> None:
    assert config.checked(LOADED.manifest, {"path": "/data/in/a.csv", "has_header": "false"})["has_header"] is False


@pytest.mark.parametrize("path", ["a.csv", "/etc/passwd", "/data/a.csv", "/data//x.csv"])
def test_a_path_outside_the_mounts_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.path"):
        config.checked(LOADED.manifest, {"path": path})
