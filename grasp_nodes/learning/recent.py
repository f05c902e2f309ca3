"""What was used last, kept: codes of objects, methods with their networks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """At most so many values; the one that was not asked for since longest goes first.

    Args:
        size: values to keep, 1 or more.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value, which counts as asked for, or None."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep a value as the one that was asked for last."""
        self._values.pop(key, None)
        self._make_room()
        self._values[key] = value

    def of(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value, made if it is not kept; what has to go for it goes before, so that memory is free."""
        if key not in self._values:
            self._make_room()
            self._values[key] = make()
        self._values.move_to_end(key)
        return self._values[key]

    def _make_room(self) -> None:
        while len(self._values) >= self._size:
            self._values.popitem(last=False)
