"""The exceptions of the embedded runtime: its own, and rclpy's under rclpy's names."""

# ruff: noqa: N818 - the names are rclpy's

from __future__ import annotations


class NotSupportedByEmbeddedRuntime(NotImplementedError):
    """A part of ROS 2 that the embedded runtime does not provide; the message names it and the remedy."""

    def __init__(self, what: str, remedy: str = "source a ROS 2 installation to use it") -> None:
        super().__init__(f"{what} is not supported by the embedded ROS runtime: {remedy}")


class MalformedPayload(ValueError):
    """Bytes from the wire that are not a message of the expected type."""


class LaunchError(ValueError):
    """A launch file or its arguments cannot be used; the message says why."""


class NotInitializedException(Exception):
    """``rclpy.init()`` has not been called, or the context was shut down."""

    def __init__(self) -> None:
        super().__init__("rclpy.init() has not been called, or rclpy.shutdown() has been called since")


class InvalidHandle(RuntimeError):
    """A publisher, client or node was used after it was destroyed."""


class ExternalShutdownException(Exception):
    """The context was shut down (by a signal or from another thread) while an executor was spinning."""

    def __init__(self) -> None:
        super().__init__("the context was shut down")


class ShutdownException(Exception):
    """The executor itself was shut down."""


class TimeoutException(Exception):
    """A wait ended without a result."""


class ROSInterruptException(Exception):
    """A sleep was interrupted by shutdown."""


class NameValidationException(ValueError):
    """A name that the ROS graph does not allow."""


class InvalidNamespaceException(NameValidationException):
    """A namespace that the ROS graph does not allow."""


class InvalidNodeNameException(NameValidationException):
    """A node name that the ROS graph does not allow."""


class InvalidTopicNameException(NameValidationException):
    """A topic name that the ROS graph does not allow."""


class InvalidServiceNameException(NameValidationException):
    """A service name that the ROS graph does not allow."""


class ParameterException(Exception):
    """Base of the parameter errors."""


class ParameterNotDeclaredException(ParameterException):
    """A parameter was used before it was declared."""


class ParameterAlreadyDeclaredException(ParameterException):
    """A parameter was declared twice."""


class InvalidParameterException(ParameterException):
    """A parameter name that is not allowed."""


class InvalidParameterTypeException(ParameterException):
    """A parameter value of another type than the declared one."""


class InvalidParameterValueException(ParameterException):
    """A parameter value outside its range, or refused by a callback."""


class ParameterImmutableException(ParameterException):
    """A read-only parameter was changed or undeclared."""


class ParameterUninitializedException(ParameterException):
    """A parameter without a value was read."""
