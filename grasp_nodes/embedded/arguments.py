"""Command-line arguments of a node (``--ros-args``), names in the graph, remapping, and parameter files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from grasp_nodes.embedded.errors import (
    InvalidNamespaceException,
    InvalidNodeNameException,
    InvalidTopicNameException,
    NotSupportedByEmbeddedRuntime,
)
from grasp_nodes.embedded.logger import severity_from_name

_TOKEN = r"[A-Za-z_][A-Za-z0-9_]*"
_IGNORED_FLAGS = {
    f"--{verb}-{what}" for verb in ("enable", "disable") for what in ("rosout-logs", "external-lib-logs")
} | {"--enable-stdout-logs"}


@dataclass
class RosArguments:
    """What follows ``--ros-args``."""

    remaps: list[tuple[str | None, str, str]] = field(default_factory=list)
    """(node or None for all, from, to)."""
    parameters: list[tuple[str | None, str, Any]] = field(default_factory=list)
    """(node or None for all, name, value)."""
    parameter_files: list[str] = field(default_factory=list)
    log_levels: list[tuple[str, int]] = field(default_factory=list)
    """(logger, severity); the empty name is every logger."""

    def node_name(self, name: str) -> str:
        """A node's name after ``__node:=`` rules."""
        return self._special(("__node", "__name"), name, name)

    def namespace(self, name: str, namespace: str) -> str:
        """A node's namespace after ``__ns:=`` rules."""
        return self._special(("__ns",), name, namespace)

    def _special(self, keys: tuple[str, ...], node: str, default: str) -> str:
        return next((to for only, source, to in self.remaps if source in keys and only in (None, node)), default)

    def remap(self, full_name: str, node: str, namespace: str) -> str:
        """A topic or service name after the first rule that matches it."""
        for only, source, target in self.remaps:
            if source.startswith("__") or only not in (None, node):
                continue
            if full_name == expand_name(source, node, namespace):
                return expand_name(target, node, namespace)
        return full_name

    def overrides(self, node: str, namespace: str) -> dict[str, Any]:
        """Values that files and ``-p`` give to a node's parameters; the later and the more specific win."""
        values: dict[str, Any] = {}
        for file in self.parameter_files:
            values.update(read_parameter_file(Path(file), node, namespace))
        values.update({name: value for only, name, value in self.parameters if only in (None, node)})
        return values


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the ROS part (without ``--ros-args`` and ``--``) and the rest."""
    ros: list[str] = []
    other: list[str] = []
    inside = False
    for argument in arguments:
        if argument == "--ros-args":
            inside = True
        elif inside and argument == "--":
            inside = False
        else:
            (ros if inside else other).append(argument)
    return ros, other


def parse_arguments(arguments: Sequence[str]) -> RosArguments:
    """Read a command line.

    Raises:
        ValueError: an argument is malformed or unknown.
        NotSupportedByEmbeddedRuntime: an argument that real ROS 2 knows and this runtime does not.
    """
    result = RosArguments()
    words = iter(split_arguments(arguments)[0])
    for word in words:
        if word in _IGNORED_FLAGS:
            continue
        if word in ("-e", "--enclave", "--log-config-file", "--disable-stdout-logs"):
            raise NotSupportedByEmbeddedRuntime(f"the argument {word}", "leave it out")
        if word not in ("-r", "--remap", "-p", "--param", "--params-file", "--log-level"):
            raise ValueError(
                f"unknown argument {word!r} after --ros-args; known are -r, -p, --params-file, --log-level"
            )
        value = next(words, None)
        if value is None:
            raise ValueError(f"the argument {word} needs a value")
        if word in ("-r", "--remap"):
            result.remaps.append(_parse_rule(word, value))
        elif word in ("-p", "--param"):
            node, name, text = _parse_rule(word, value)
            result.parameters.append((node, name, parse_value(text)))
        elif word == "--params-file":
            result.parameter_files.append(value)
        else:
            name, _, level = value.rpartition(":=")
            result.log_levels.append((name, severity_from_name(level)))
    return result


def _parse_rule(flag: str, rule: str) -> tuple[str | None, str, str]:
    source, separator, target = rule.partition(":=")
    if not separator or not source or (not target and flag in ("-r", "--remap")):
        raise ValueError(f"{flag} {rule!r}: expected name:=value")
    if source.startswith(("rostopic://", "rosservice://")):
        raise NotSupportedByEmbeddedRuntime(f"the remapping rule {rule!r}", "give the name alone")
    node, colon, name = source.partition(":")
    return (node, name, target) if colon else (None, source, target)


class _ParameterLoader(yaml.SafeLoader):
    """YAML as rcl reads it: ``1e-3`` is a number too."""


_ParameterLoader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_ParameterLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_value(text: str) -> Any:
    """The value of a parameter as written on a command line.

    Raises:
        ValueError: not a scalar or a list of scalars of one type.
    """
    try:
        value = yaml.load(text, _ParameterLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"parameter value {text!r} is not YAML: {error}") from error
    return "" if value is None else _check_value(f"parameter value {text!r}", value)


def _check_value(where: str, value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)):
        return value
    kinds = {type(item) for item in value} if isinstance(value, list) else {object}
    if len(kinds) <= 1 and kinds <= {bool, int, float, str}:
        return value
    if isinstance(value, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value):
        return [float(item) for item in value]
    raise ValueError(f"{where}: expected a bool, number, text or a list of one of them, got {value!r:.80}")


def read_parameter_file(path: Path, node: str, namespace: str) -> dict[str, Any]:
    """The parameters that a YAML file gives to one node, nested names joined by dots.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a parameter file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"parameter file {path} not found")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _ParameterLoader) or {}  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"parameter file {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"parameter file {path}: expected 'node: {{ros__parameters: ...}}', got {content!r:.80}")
    full_name = f"{namespace.rstrip('/')}/{node}"
    sections = [(pattern, values) for pattern, values in _sections(path, content, "") if _matches(pattern, full_name)]
    sections.sort(key=lambda section: "*" not in section[0])  # wildcards first, so that exact names override them
    return {name: value for _, values in sections for name, value in _flatten(path, values, "")}


def _sections(path: Path, content: dict[Any, Any], prefix: str) -> Iterable[tuple[str, dict[str, Any]]]:
    for key, value in content.items():
        if not isinstance(value, dict):
            raise ValueError(f"parameter file {path}: {prefix}/{key}: expected 'ros__parameters:' below a node's name")
        if key == "ros__parameters":
            yield prefix, value
        else:
            yield from _sections(path, value, f"{prefix}/{str(key).strip('/')}")


def _matches(pattern: str, full_name: str) -> bool:
    regex = re.escape(pattern).replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(regex, full_name) is not None


def _flatten(path: Path, values: dict[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(path, value, f"{name}.")
        elif value is not None:
            yield name, _check_value(f"parameter file {path}: {name}", value)


def check_node_name(name: str) -> str:
    """The name, if a node may be called that."""
    if not re.fullmatch(_TOKEN, name):
        raise InvalidNodeNameException(f"node name {name!r}: use letters, digits and '_', not starting with a digit")
    return name


def check_namespace(namespace: str) -> str:
    """The namespace as an absolute name, ``/`` for none."""
    full = "/" + namespace.strip("/")
    if full != "/" and not re.fullmatch(rf"(/{_TOKEN})+", full):
        raise InvalidNamespaceException(f"namespace {namespace!r}: use /names of letters, digits and '_'")
    return full


def expand_name(name: str, node: str, namespace: str) -> str:
    """A topic or service name in full: ``~/x`` is below the node, ``x`` below its namespace.

    Raises:
        InvalidTopicNameException: the graph does not allow the name.
    """
    if "{" in name:
        raise NotSupportedByEmbeddedRuntime(f"the substitution in the name {name!r}", "use ~/ or a relative name")
    base = namespace.rstrip("/")
    if name.startswith("/"):
        full = name
    elif name == "~" or name.startswith("~/"):
        full = f"{base}/{node}{name[1:]}"
    else:
        full = f"{base}/{name}"
    if not re.fullmatch(rf"(/{_TOKEN})+", full):
        raise InvalidTopicNameException(
            f"name {name!r}: use letters, digits, '_' and '/', no part starting with a digit"
        )
    return full
