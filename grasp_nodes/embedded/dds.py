"""The wire: one Cyclone DDS participant per process that carries ready-made CDR bytes under ROS 2's names.

Every topic is declared to Cyclone with a placeholder type under the right type name, so that any payload passes
through unchecked in both directions and a malformed one reaches us, where it is counted. Samples are written and taken
with ctypes without a copy: unlike the binding's own ``ddspy_*`` functions these calls release the interpreter lock.
They rely on the memory layout of one release of Cyclone, so a self-test proves them when the process starts; where it
fails, the binding's slower calls carry the same bytes. There are no listeners, because those call Python from
Cyclone's threads and deadlock; a ``WaitSet`` does the waiting.
"""

from __future__ import annotations

import ctypes as ct
import dataclasses
import functools
import importlib.metadata
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from cyclonedds._clayer import ddspy_take, ddspy_write
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import DDSStatus, Entity, InstanceState, Policy, Qos, SampleState, ViewState
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl import types as idl_types
from cyclonedds.idl._main import IdlMeta
from cyclonedds.internal import DDS
from cyclonedds.pub import DataWriter, Publisher
from cyclonedds.sub import DataReader, Subscriber
from cyclonedds.topic import Topic

from grasp_nodes.embedded import loopback_uri, types
from grasp_nodes.embedded.vocabulary import (
    DurabilityPolicy,
    IncompatibleQoSInfo,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_ANY = SampleState.Any | ViewState.Any | InstanceState.Any
_TESTED_SERIES = "11.0."
_DISCOVERY_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
# Cyclone's numbers; a peer may also ask for policies that our profiles leave at their defaults.
_POLICY_IDS = {2: QoSPolicyKind.DURABILITY, 4: QoSPolicyKind.DEADLINE, 8: QoSPolicyKind.LIVELINESS}
_POLICY_IDS |= {11: QoSPolicyKind.RELIABILITY}


class _Container(ct.Structure):
    _fields_ = [("data", ct.c_void_p), ("size", ct.c_size_t)]


class _IoVector(ct.Structure):
    _fields_ = [("base", ct.c_void_p), ("length", ct.c_size_t)]


class _SampleInfo(ct.Structure):
    _fields_ = [
        *((name, ct.c_uint32) for name in ("sample_state", "view_state", "instance_state")),
        ("valid", ct.c_bool),
        ("source_timestamp", ct.c_int64),
        ("instance", ct.c_int64),
        ("publication", ct.c_int64),  # signed, as the binding's own calls take it
        *((f"count{i}", ct.c_uint32) for i in range(5)),
    ]


class _IncompatibleStatus(ct.Structure):
    _fields_ = [("total", ct.c_uint32), ("change", ct.c_int32), ("policy", ct.c_uint32)]


def _signature(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(DDS._dll_handle, name)
    function.restype, function.argtypes = result, arguments
    return function


_i32, _u32, _pointer, _size = ct.c_int32, ct.c_uint32, ct.c_void_p, ct.c_size_t
_delete = _signature("dds_delete", _i32, _i32)
_create_waitset = _signature("dds_create_waitset", _i32, _i32)
_attach = _signature("dds_waitset_attach", _i32, _i32, _i32, ct.c_ssize_t)
_wait = _signature("dds_waitset_wait", _i32, _i32, _pointer, _size, ct.c_int64)
_create_guard = _signature("dds_create_guardcondition", _i32, _i32)
_set_guard = _signature("dds_set_guardcondition", _i32, _i32, ct.c_bool)
_create_readcondition = _signature("dds_create_readcondition", _i32, _i32, _u32)
_set_status_mask = _signature("dds_set_status_mask", _i32, _i32, _u32)
_matched_readers = _signature("dds_get_matched_subscriptions", _i32, _i32, _pointer, _size)
_matched_writers = _signature("dds_get_matched_publications", _i32, _i32, _pointer, _size)
_offered_incompatible = _signature("dds_get_offered_incompatible_qos_status", _i32, _i32, _pointer)
_requested_incompatible = _signature("dds_get_requested_incompatible_qos_status", _i32, _i32, _pointer)


class Sample(NamedTuple):
    """One received payload."""

    data: memoryview
    """CDR bytes with their header; the memory belongs to Cyclone and lives as long as this view."""
    publication: int
    """Instance handle of the writer that sent it."""


class _FastPath:
    """Zero-copy write and take; see the module's text."""

    def __init__(self) -> None:
        self._write = _signature("dds_write", _i32, _i32, _pointer)
        self._take = _signature("dds_takecdr", _i32, _i32, _pointer, _u32, _pointer, _u32)
        self._size = _signature("ddsi_serdata_size", _u32, _pointer)
        self._reference = _signature("ddsi_serdata_to_ser_ref", _pointer, _pointer, _size, _size, _pointer)
        self._unreference = _signature("ddsi_serdata_to_ser_unref", None, _pointer, _pointer)
        self._release_data = _signature("ddsi_serdata_unref", None, _pointer)

    def write(self, writer: int, data: bytearray) -> int:
        pinned = (ct.c_ubyte * len(data)).from_buffer(data)
        return int(self._write(writer, ct.byref(_Container(ct.addressof(pinned), len(data)))))

    def take(self, reader: int) -> Sample | None:
        pointer, info = ct.c_void_p(), _SampleInfo()
        while self._take(reader, ct.byref(pointer), 1, ct.byref(info), _ANY) == 1:
            if not info.valid:  # a writer that went away leaves a sample without a payload
                self._release_data(pointer)
                continue
            size, vector = self._size(pointer), _IoVector()
            reference = self._reference(pointer, 0, size, ct.byref(vector))
            memory = (ct.c_ubyte * size).from_address(vector.base or 0)
            weakref.finalize(memory, self._release, pointer, reference, vector).atexit = False
            return Sample(memoryview(memory).cast("B").toreadonly(), info.publication)
        return None

    def _release(self, pointer: ct.c_void_p, reference: int, vector: _IoVector) -> None:
        self._unreference(reference, ct.byref(vector))
        self._release_data(pointer)


class _BindingPath:
    """The same through the Python binding's own calls, which copy."""

    def write(self, writer: int, data: bytearray) -> int:
        return int(ddspy_write(writer, bytes(data)))

    def take(self, reader: int) -> Sample | None:
        while isinstance(taken := ddspy_take(reader, _ANY, 1), list) and taken:
            data, info = taken[0]
            if info.valid_data:
                return Sample(memoryview(data), ct.c_int64(info.publication_handle).value)
        return None


@functools.cache
def _placeholder_class(type_name: str) -> Any:
    """An IDL class of one octet under the given DDS type name."""
    prepare: Any = IdlMeta.__prepare__
    body = prepare("Placeholder", (IdlStruct,), typename=type_name)
    body["__annotations__"] = {"octet": idl_types.uint8}
    body["__module__"] = __name__
    return dataclasses.dataclass(IdlMeta("Placeholder", (IdlStruct,), body))


def _to_dds(profile: QoSProfile, user_data: str) -> Any:
    """The policies that rmw_cyclonedds would set."""
    is_latched = profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    is_reliable = profile.reliability != ReliabilityPolicy.BEST_EFFORT
    history = Policy.History.KeepLast(max(profile.depth, 1))
    policies = [
        Policy.Reliability.Reliable(max_blocking_time=2**63 - 1) if is_reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if is_latched else Policy.Durability.Volatile,
        history,
        Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False),
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.Userdata(user_data.encode()),
    ]
    if is_latched:
        policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
    return Qos(*policies)


def _aside(describe: Callable[[], T]) -> T:
    """What one of the binding's descriptions of endpoints gives, made outside of the main thread.

    The binding makes them in Python that C calls. A KeyboardInterrupt, which strikes in the main thread, would leave
    there as a nameless error of the binding.
    """
    if threading.current_thread() is not threading.main_thread():
        return describe()
    with ThreadPoolExecutor(1) as pool:
        try:
            coming = pool.submit(describe)
        except RuntimeError:  # the interpreter is ending and starts no threads
            return describe()
        return coming.result()


class _Endpoint:
    """What writers and readers share: the entity, its identity and its incompatible-QoS status."""

    def __init__(self, participant: Participant, entity: Any, status: int, read_status: Any) -> None:
        self.participant = participant
        self.entity = entity
        self.handle: int = entity._ref
        self.gid: bytes = entity.get_guid().bytes
        self._read_status = read_status
        _set_status_mask(self.handle, status)

    def incompatible_qos(self) -> IncompatibleQoSInfo | None:
        """The incompatibilities found since the last call, or None."""
        status = _IncompatibleStatus()
        if self._read_status(self.handle, ct.byref(status)) < 0 or status.change == 0:
            return None
        kind = _POLICY_IDS.get(status.policy, QoSPolicyKind.INVALID)
        return IncompatibleQoSInfo(status.total, status.change, kind)

    def close(self) -> None:
        """Delete the entity; later calls are refused."""
        Entity._entities.pop(self.handle, None)  # else the binding would delete the handle a second time
        _delete(self.handle)
        self.handle = -1


class Writer(_Endpoint):
    """Sends CDR bytes on one topic."""

    def __init__(self, participant: Participant, topic: str, type_name: str, qos: QoSProfile, user_data: str) -> None:
        dds_qos = _to_dds(qos, user_data + participant.type_tag(type_name))
        entity = DataWriter(participant.publisher, participant.topic(topic, type_name), dds_qos)
        super().__init__(participant, entity, DDSStatus.OfferedIncompatibleQos, _offered_incompatible)
        self.topic = topic

    def write(self, data: bytearray) -> None:
        """Send a payload (header included, padded to 4 bytes); safe from any thread.

        Raises:
            RuntimeError: the writer was closed.
        """
        code = self.participant.path.write(self.handle, data)
        if code < 0:
            raise RuntimeError(f"cannot write to {self.topic}: it was destroyed (DDS code {code})")

    def matched_count(self) -> int:
        """Number of readers that receive what is written."""
        return max(0, int(_matched_readers(self.handle, None, 0)))

    def matched_user_data(self) -> list[str]:
        """User data of the readers that receive what is written."""
        readers = self.entity.get_matched_subscriptions()
        found = _aside(lambda: [self.entity.get_matched_subscription_data(reader) for reader in readers])
        return [_user_data(reader) for reader in found]


class Reader(_Endpoint):
    """Receives CDR bytes on one topic."""

    def __init__(self, participant: Participant, topic: str, type_name: str, qos: QoSProfile, user_data: str) -> None:
        dds_qos = _to_dds(qos, user_data + participant.type_tag(type_name))
        entity = DataReader(participant.subscriber, participant.topic(topic, type_name), dds_qos)
        super().__init__(participant, entity, DDSStatus.RequestedIncompatibleQos, _requested_incompatible)
        self.condition: int = _create_readcondition(self.handle, _ANY)

    def take(self) -> Sample | None:
        """The next payload, or None."""
        return self.participant.path.take(self.handle)

    def matched_count(self) -> int:
        """Number of writers that this reader listens to."""
        return max(0, int(_matched_writers(self.handle, None, 0)))

    def writer_user_data(self, publication: int) -> str:
        """User data of the writer that sent a sample, empty if it is gone."""
        return _user_data(_aside(lambda: self.entity.get_matched_publication_data(publication)))


def _user_data(endpoint: Any) -> str:
    policy = endpoint.qos[Policy.Userdata] if endpoint is not None and endpoint.qos else None
    return policy.data.decode(errors="replace") if policy is not None else ""


class WaitSet:
    """Waits for conditions, which are known by their place in a list; any thread can end a wait."""

    def __init__(self, participant: Participant) -> None:
        self._participant: int = participant.entity._ref
        self._guard: int = _create_guard(self._participant)
        self._handle = 0
        self.watch(())

    def watch(self, conditions: Sequence[int]) -> None:
        """Wait for these conditions, and no others, from now on."""
        _delete(self._handle)
        self._handle = _create_waitset(self._participant)
        self._keys = (ct.c_ssize_t * (1 + len(conditions)))()
        for key, condition in enumerate((self._guard, *conditions)):
            _attach(self._handle, condition, key)

    def wait(self, timeout_s: float) -> list[int]:
        """Places of the conditions that are true, waiting at most the given time [s] for the first."""
        found = _wait(self._handle, self._keys, len(self._keys), max(0, int(timeout_s * 1e9)))
        keys = self._keys[: max(0, min(found, len(self._keys)))]
        if 0 in keys:
            _set_guard(self._guard, False)
        return [key - 1 for key in keys if key > 0]

    def wake(self) -> None:
        """End the wait; may be called from any thread."""
        _set_guard(self._guard, True)

    def close(self) -> None:
        """Delete the wait set."""
        _delete(self._handle)
        _delete(self._guard)


class Participant:
    """The process on the wire: its topics, endpoints and what it tells the ROS graph about its nodes."""

    def __init__(self) -> None:
        is_local = os.environ.get("ROS_LOCALHOST_ONLY") == "1"
        is_local |= os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"
        if is_local and not os.environ.get("CYCLONEDDS_URI"):
            os.environ["CYCLONEDDS_URI"] = loopback_uri()
        domain = int(os.environ.get("ROS_DOMAIN_ID") or 0)
        self.entity = DomainParticipant(domain, Qos(Policy.Userdata(b"enclave=/;")))
        self.publisher, self.subscriber = Publisher(self.entity), Subscriber(self.entity)
        self._topics: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._all_publishers = BuiltinDataReader(self.entity, BuiltinTopicDcpsPublication)
        self.path: _FastPath | _BindingPath = _BindingPath()
        self.path = self._choose_path()
        self._nodes: dict[object, tuple[str, str, set[bytes], set[bytes]]] = {}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._discovery = Writer(self, "ros_discovery_info", _DISCOVERY_TYPE, latched, "")

    def topic(self, name: str, type_name: str) -> Any:
        """The DDS topic of that name; Cyclone wants one object per name.

        Raises:
            ValueError: the topic is in use with another type.
        """
        with self._lock:
            placeholder = _placeholder_class(types.dds_type_name(type_name))
            found = self._topics.get(name)
            if found is None:
                found = self._topics[name] = Topic(self.entity, name, placeholder)
            elif found.data_type is not placeholder:
                other = found.data_type.__idl__.idl_transformed_typename
                raise ValueError(f"topic {name} cannot be used with {type_name}: this process uses it with {other}")
            return found

    def type_tag(self, type_name: str) -> str:
        """The user data that names a type's hash; Humble knows none."""
        return "" if types.distro() == "humble" else f"typehash={types.type_hash(type_name)};"

    def announce(self, node: object, namespace: str, name: str, endpoints: Sequence[Writer | Reader]) -> None:
        """Tell the ROS graph which endpoints belong to a node."""
        readers = {end.gid for end in endpoints if isinstance(end, Reader)}
        writers = {end.gid for end in endpoints if isinstance(end, Writer)}
        with self._lock:
            self._nodes[node] = (namespace, name, readers, writers)
            self._publish_graph()

    def withdraw(self, node: object) -> None:
        """Take a node out of the ROS graph."""
        with self._lock:
            if self._nodes.pop(node, None) is not None:
                self._publish_graph()

    def _publish_graph(self) -> None:
        gid = types.message_class("rmw_dds_common/msg/Gid")
        entry = types.message_class("rmw_dds_common/msg/NodeEntitiesInfo")
        size = len(gid().data)  # type: ignore[attr-defined]

        def to_gids(guids: Iterable[bytes]) -> list[types.Message]:
            return [gid(data=guid.ljust(size, b"\0")) for guid in sorted(guids)]

        nodes = [
            entry(
                node_namespace=space, node_name=name, reader_gid_seq=to_gids(readers), writer_gid_seq=to_gids(writers)
            )
            for space, name, readers, writers in self._nodes.values()
        ]
        own = to_gids([self.entity.get_guid().bytes])[0]
        info = types.message_class(_DISCOVERY_TYPE)(gid=own, node_entities_info_seq=nodes)
        self._discovery.write(types.serialize(info))

    def count_publishers(self, topic: str) -> int:
        """Number of publishers of a DDS topic in the whole graph."""
        with self._lock:
            found = _aside(lambda: self._all_publishers.read(10_000))
        alive = (item for item in found if item.sample_info.instance_state == InstanceState.Alive)
        return sum(item.topic_name == topic for item in alive)

    def _choose_path(self) -> _FastPath | _BindingPath:
        version = importlib.metadata.version("cyclonedds")
        if not version.startswith(_TESTED_SERIES):
            _LOG.warning("cyclonedds %s is not %sx: using the slower calls", version, _TESTED_SERIES)
            return _BindingPath()
        try:
            fast = _FastPath()
        except AttributeError as error:
            _LOG.warning("cyclonedds lacks a function (%s): using the slower calls", error)
            return _BindingPath()
        self.path = fast
        if self._self_test():
            return fast
        _LOG.warning("the zero-copy calls of cyclonedds failed their self-test: using the slower calls")
        return _BindingPath()

    def _self_test(self) -> bool:
        """Does a payload that no peer can see come back unchanged, from a known writer?"""
        name, profile = f"embedded_self_test_{uuid.uuid4().hex}", QoSProfile(depth=1)
        writer = Writer(self, name, "std_msgs/msg/Empty", profile, "")
        reader = Reader(self, name, "std_msgs/msg/Empty", profile, "")
        payload = bytearray(b"\0\1\0\0" + bytes(range(200)))
        writer.write(payload)
        end, sample = time.monotonic() + 1, None
        while sample is None and time.monotonic() < end:
            sample = reader.take()
        expected = writer.entity.get_instance_handle() if sample else 0
        good = sample is not None and sample.data == payload and sample.publication == expected
        reader.close()
        writer.close()
        self._topics.pop(name)  # its object deletes the entity
        return good

    def close(self) -> None:
        """Leave the wire; everything of this participant is deleted with it."""
        reference = self.entity._ref
        for entity in (*self._topics.values(), self._all_publishers, self.publisher, self.subscriber, self.entity):
            Entity._entities.pop(entity._ref, None)
        Entity._entities.pop(self._discovery.handle, None)
        _delete(reference)
