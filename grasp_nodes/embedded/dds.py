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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from grasp_nodes.embedded import types
from grasp_nodes.embedded.errors import InvalidHandle, NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.qos import IncompatibleQoSInfo, QoSPolicyKind, QoSProfile

try:
    from cyclonedds._clayer import ddspy_take, ddspy_write
    from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription
    from cyclonedds.core import DDSStatus, Entity, InstanceState, Policy, Qos, SampleState, ViewState
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl import types as idl_types
    from cyclonedds.idl._main import IdlMeta
    from cyclonedds.internal import DDS
    from cyclonedds.pub import DataWriter, Publisher
    from cyclonedds.sub import DataReader, Subscriber
    from cyclonedds.topic import Topic
except ImportError as error:
    raise NotSupportedByEmbeddedRuntime(
        "running without the package cyclonedds", "pip install 'grasp_nodes[embedded]', or source a ROS 2 installation"
    ) from error

_LOG = logging.getLogger(__name__)
_ANY = SampleState.Any | ViewState.Any | InstanceState.Any
_TESTED_SERIES = "11.0."
_INFINITE_NS = 2**63 - 1
_KEEP_ALL_BLOCKING_NS = 1_000_000_000  # rmw blocks for ever; then a stalled reader would also stall Ctrl-C
_TIMEOUT = -10
DISCOVERY_TOPIC = "ros_discovery_info"
_DISCOVERY_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_POLICY_IDS = {2: QoSPolicyKind.DURABILITY, 4: QoSPolicyKind.DEADLINE, 8: QoSPolicyKind.LIVELINESS}
_POLICY_IDS |= {11: QoSPolicyKind.RELIABILITY, 13: QoSPolicyKind.HISTORY}


def loopback_uri() -> str:
    """Value for ``CYCLONEDDS_URI`` that keeps all traffic on this machine, without multicast."""
    return (
        '<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>'
        "<AllowMulticast>false</AllowMulticast><MaxMessageSize>65500B</MaxMessageSize></General><Discovery>"
        "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>60</MaxAutoParticipantIndex>"
        '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
        f'<Internal><SocketReceiveBufferSize min="{_receive_buffer()}B"/></Internal></Domain></CycloneDDS>'
    )


def _receive_buffer() -> int:
    # Cyclone fails to start when it is asked for more than the kernel grants (twice rmem_max).
    try:
        return min(4_000_000, int(Path("/proc/sys/net/core/rmem_max").read_text(encoding="ascii")))
    except OSError:
        return 200_000


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


_delete = _signature("dds_delete", ct.c_int32, ct.c_int32)
_create_waitset = _signature("dds_create_waitset", ct.c_int32, ct.c_int32)
_create_guard = _signature("dds_create_guardcondition", ct.c_int32, ct.c_int32)
_set_guard = _signature("dds_set_guardcondition", ct.c_int32, ct.c_int32, ct.c_bool)
_take_guard = _signature("dds_take_guardcondition", ct.c_int32, ct.c_int32, ct.POINTER(ct.c_bool))
_create_readcondition = _signature("dds_create_readcondition", ct.c_int32, ct.c_int32, ct.c_uint32)
_attach = _signature("dds_waitset_attach", ct.c_int32, ct.c_int32, ct.c_int32, ct.c_ssize_t)
_detach = _signature("dds_waitset_detach", ct.c_int32, ct.c_int32, ct.c_int32)
_wait = _signature("dds_waitset_wait", ct.c_int32, ct.c_int32, ct.c_void_p, ct.c_size_t, ct.c_int64)
_set_status_mask = _signature("dds_set_status_mask", ct.c_int32, ct.c_int32, ct.c_uint32)
_matched_readers = _signature("dds_get_matched_subscriptions", ct.c_int32, ct.c_int32, ct.c_void_p, ct.c_size_t)
_matched_writers = _signature("dds_get_matched_publications", ct.c_int32, ct.c_int32, ct.c_void_p, ct.c_size_t)
_offered_incompatible = _signature(
    "dds_get_offered_incompatible_qos_status", ct.c_int32, ct.c_int32, ct.POINTER(_IncompatibleStatus)
)
_requested_incompatible = _signature(
    "dds_get_requested_incompatible_qos_status", ct.c_int32, ct.c_int32, ct.POINTER(_IncompatibleStatus)
)


class Sample(NamedTuple):
    """One received payload."""

    data: memoryview
    """CDR bytes with their header; the memory belongs to Cyclone and lives as long as this view."""
    publication: int
    """Instance handle of the writer that sent it."""


class _FastPath:
    """Zero-copy write and take; see the module's text."""

    def __init__(self) -> None:
        self._write = _signature("dds_write", ct.c_int32, ct.c_int32, ct.c_void_p)
        self._take = _signature(
            "dds_takecdr", ct.c_int32, ct.c_int32, ct.c_void_p, ct.c_uint32, ct.c_void_p, ct.c_uint32
        )
        self._size = _signature("ddsi_serdata_size", ct.c_uint32, ct.c_void_p)
        self._reference = _signature(
            "ddsi_serdata_to_ser_ref", ct.c_void_p, ct.c_void_p, ct.c_size_t, ct.c_size_t, ct.c_void_p
        )
        self._unreference = _signature("ddsi_serdata_to_ser_unref", None, ct.c_void_p, ct.c_void_p)
        self._release_data = _signature("ddsi_serdata_unref", None, ct.c_void_p)

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
        while taken := ddspy_take(reader, _ANY, 1):
            if isinstance(taken, int):
                return None
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
    blocking = _KEEP_ALL_BLOCKING_NS if profile.keeps_all else _INFINITE_NS
    history = Policy.History.KeepAll if profile.keeps_all else Policy.History.KeepLast(max(profile.depth, 1))
    policies = [
        Policy.Reliability.Reliable(max_blocking_time=blocking)
        if profile.is_reliable
        else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if profile.is_transient_local else Policy.Durability.Volatile,
        history,
        Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False),
        Policy.WriterDataLifecycle(autodispose=False),
    ]
    if user_data:
        policies.append(Policy.Userdata(user_data.encode()))
    if profile.is_transient_local:
        policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
    return Qos(*policies)


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

    def write(self, data: bytearray) -> bool:
        """Send a payload (header included, padded to 4 bytes); safe from any thread.

        Returns:
            False if a reader that keeps all messages did not make room in time.

        Raises:
            InvalidHandle: the writer was closed.
        """
        code = self.participant.path.write(self.handle, data)
        if code < 0 and code != _TIMEOUT:
            raise InvalidHandle(f"cannot write to {self.topic}: it was destroyed (DDS code {code})")
        return code >= 0

    def matched_count(self) -> int:
        """Number of readers that receive what is written."""
        return max(0, int(_matched_readers(self.handle, None, 0)))

    def matched_user_data(self) -> list[str]:
        """User data of the readers that receive what is written."""
        found = (
            self.entity.get_matched_subscription_data(handle) for handle in self.entity.get_matched_subscriptions()
        )
        return [_user_data(endpoint) for endpoint in found]


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
        return _user_data(self.entity.get_matched_publication_data(publication))


def _user_data(endpoint: Any) -> str:
    policy = endpoint.qos[Policy.Userdata] if endpoint is not None and endpoint.qos else None
    return policy.data.decode(errors="replace") if policy is not None else ""


class WaitSet:
    """Waits for conditions; each is attached with a key that the wait returns."""

    def __init__(self, participant: Participant) -> None:
        self._handle = _create_waitset(participant.entity._ref)
        self._count = 0

    def attach(self, handle: int, key: int) -> None:
        """Add a condition or an endpoint (for its status)."""
        if _attach(self._handle, handle, key) == 0:
            self._count += 1

    def detach(self, handle: int) -> None:
        """Remove a condition; one that is already deleted has left by itself."""
        _detach(self._handle, handle)
        self._count -= 1

    def wait(self, timeout_s: float) -> list[int]:
        """Keys of the conditions that are true, waiting at most the given time [s] for the first."""
        keys = (ct.c_ssize_t * max(1, self._count))()
        found = _wait(self._handle, keys, len(keys), max(0, int(timeout_s * 1e9)))
        return list(keys[: max(0, min(found, len(keys)))])

    def close(self) -> None:
        """Delete the wait set."""
        _delete(self._handle)


class Guard:
    """A condition that any thread can set to end a wait."""

    def __init__(self, participant: Participant) -> None:
        self.handle: int = _create_guard(participant.entity._ref)

    def set(self) -> None:
        """Make the condition true."""
        _set_guard(self.handle, True)

    def take(self) -> bool:
        """Was it true? It is false afterwards."""
        was_set = ct.c_bool()
        _take_guard(self.handle, ct.byref(was_set))
        return was_set.value

    def close(self) -> None:
        """Delete the condition."""
        _delete(self.handle)


class Participant:
    """The process on the wire: its topics, endpoints and what it tells the ROS graph about its nodes."""

    def __init__(self) -> None:
        _apply_localhost_only()
        domain = int(os.environ.get("ROS_DOMAIN_ID") or 0)
        self.entity = DomainParticipant(domain, Qos(Policy.Userdata(b"enclave=/;")))
        self.publisher, self.subscriber = Publisher(self.entity), Subscriber(self.entity)
        self._topics: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._builtin: dict[str, Any] = {}
        self.path: _FastPath | _BindingPath = _BindingPath()
        self.path = self._choose_path()
        self._nodes: dict[object, tuple[str, str, set[bytes], set[bytes]]] = {}
        profile = QoSProfile(depth=1, durability=1)
        self._discovery = Writer(self, DISCOVERY_TOPIC, _DISCOVERY_TYPE, profile, "")

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
                raise ValueError(
                    f"topic {name} cannot be used with {type_name}: this process uses it with "
                    f"{found.data_type.__idl__.idl_transformed_typename}"
                )
            return found

    def type_tag(self, type_name: str) -> str:
        """The user data that names a type's hash; Humble knows none."""
        return "" if types.distro() == "humble" else f"typehash={types.type_hash(type_name)};"

    def announce(
        self, node: object, namespace: str, name: str, readers: Iterable[bytes], writers: Iterable[bytes]
    ) -> None:
        """Tell the ROS graph which endpoints belong to a node."""
        with self._lock:
            self._nodes[node] = (namespace, name, set(readers), set(writers))
            self._publish_graph()

    def withdraw(self, node: object) -> None:
        """Take a node out of the ROS graph."""
        with self._lock:
            if self._nodes.pop(node, None) is not None:
                self._publish_graph()

    def _publish_graph(self) -> None:
        gid = types.message_class("rmw_dds_common/msg/Gid")
        entry = types.message_class("rmw_dds_common/msg/NodeEntitiesInfo")
        size = gid().data.size  # type: ignore[attr-defined]

        def to_gid(guid: bytes) -> types.Message:
            return gid(data=guid.ljust(size, b"\0"))

        nodes = [
            entry(
                node_namespace=namespace,
                node_name=name,
                reader_gid_seq=[to_gid(guid) for guid in sorted(readers)],
                writer_gid_seq=[to_gid(guid) for guid in sorted(writers)],
            )
            for namespace, name, readers, writers in self._nodes.values()
        ]
        own = to_gid(self.entity.get_guid().bytes)
        info = types.message_class(_DISCOVERY_TYPE)(gid=own, node_entities_info_seq=nodes)
        self._discovery.write(types.serialize(info))

    def endpoints(self, kind: str) -> list[tuple[str, str]]:
        """DDS topic and type names of all ``"publication"`` or ``"subscription"`` endpoints that are known now."""
        with self._lock:
            if kind not in self._builtin:
                source = BuiltinTopicDcpsPublication if kind == "publication" else BuiltinTopicDcpsSubscription
                self._builtin[kind] = BuiltinDataReader(self.entity, source)
            found = self._builtin[kind].read(10_000)
        alive = (item for item in found if item.sample_info.instance_state == InstanceState.Alive)
        return [(item.topic_name, item.type_name) for item in alive if item.topic_name]

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
        topic = self._topics.pop(name)
        Entity._entities.pop(topic._ref, None)
        _delete(topic._ref)
        return good

    def close(self) -> None:
        """Leave the wire; everything of this participant is deleted with it."""
        reference = self.entity._ref
        for entity in (*self._topics.values(), *self._builtin.values(), self.publisher, self.subscriber, self.entity):
            Entity._entities.pop(entity._ref, None)
        Entity._entities.pop(self._discovery.handle, None)
        _delete(reference)


def _apply_localhost_only() -> None:
    """ROS 2's own switches for staying on this machine, where the user gave no configuration of Cyclone."""
    local = os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    local |= os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"
    if local and not os.environ.get("CYCLONEDDS_URI"):
        os.environ["CYCLONEDDS_URI"] = loopback_uri()
