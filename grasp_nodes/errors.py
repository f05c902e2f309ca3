"""The package's exceptions. Each message says what was wrong, what came, what is allowed and the remedy."""

from __future__ import annotations


class GraspNodesError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(GraspNodesError, ValueError):
    """A file, message, parameter or array that cannot be used; the message names it."""


class MissingDependencyError(GraspNodesError, ImportError):
    """An optional package is not installed; the message gives the command that installs it."""


class MissingFileError(GraspNodesError, FileNotFoundError):
    """A file that the user has to provide (a model, a clip, a mesh) is not there."""
