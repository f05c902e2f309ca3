"""Parameters: the YAML files agree with the dataclasses, and a value that is refused says why."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from grasp_nodes.errors import InputError
from grasp_nodes.nodes import parameters
from grasp_nodes.paths import share_dir

CONFIG = share_dir() / "config"


def read(path):
    document = yaml.safe_load(path.read_text())
    return {name.removeprefix("/**/"): entry["ros__parameters"] for name, entry in document.items()}


def test_defaults_file_is_what_the_dataclasses_say():
    assert (CONFIG / "defaults.yaml").read_text() == parameters.defaults_yaml(), (
        "run: python -m grasp_nodes.nodes.parameters > config/defaults.yaml"
    )


def test_defaults_file_read_by_a_yaml_reader_gives_the_defaults():
    values = read(CONFIG / "defaults.yaml")
    assert values.keys() == parameters.NODES.keys()
    for node, kind in parameters.NODES.items():
        expected = {entry.name: parameters.default_of(entry) for entry in dataclasses.fields(kind)}
        assert values[node] == expected
        assert {name: type(value) for name, value in values[node].items()} == {
            name: type(value) for name, value in expected.items()
        }


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_every_value_in_a_config_file_is_allowed(path: Path):
    for node, values in read(path).items():
        parameters.build(parameters.NODES[node], values)


@pytest.mark.parametrize("kind", parameters.NODES.values(), ids=parameters.NODES)
def test_defaults_obey_their_own_limits_and_are_explained(kind):
    for entry in dataclasses.fields(kind):
        parameters.check_value(kind, entry.name, parameters.default_of(entry))
        assert entry.metadata["description"].endswith("."), entry.name


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("frames", -1, r"'frames': expected a number from 0 to 10000000, got -1"),
        ("pace", "fast", r"'pace': expected one of auto, realtime, answered, got 'fast'"),
        ("loop", 1, r"'loop': expected bool, got int 1"),
        ("frames", 1.5, r"'frames': expected int, got float 1.5"),
        ("rate", float("nan"), r"'rate': expected a number"),
        ("framez", 1, r"'framez' is not known; expected one of .*frames"),
    ],
)
def test_refused_value_says_why(name, value, reason):
    with pytest.raises(InputError, match=reason):
        parameters.check_value(parameters.SourceParameters, name, value)


def test_whole_number_is_taken_for_a_float():
    value = parameters.check_value(parameters.SourceParameters, "rate", 20)
    assert (value, type(value)) == (20.0, float)


@pytest.mark.parametrize("kind", [parameters.SourceParameters, parameters.ReportParameters])
def test_who_counts_frames_misses_none(kind):
    assert (kind().input_reliability, kind().input_depth) == ("reliable", 50)
