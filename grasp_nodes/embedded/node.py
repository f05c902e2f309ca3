"""The node: ``rclpy.node.Node`` over the embedded wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from grasp_nodes.embedded import dds
from grasp_nodes.embedded.arguments import check_namespace, check_node_name, expand_name, parse_arguments
from grasp_nodes.embedded.clock import Clock, ROSClock
from grasp_nodes.embedded.context import Context, default_context
from grasp_nodes.embedded.endpoints import (
    Client,
    GuardCondition,
    Publisher,
    QoSEvent,
    Service,
    Subscription,
    Timer,
    watch_qos,
)
from grasp_nodes.embedded.errors import NotSupportedByEmbeddedRuntime
from grasp_nodes.embedded.executor import CallbackGroup, Executor, MutuallyExclusiveCallbackGroup, Waitable
from grasp_nodes.embedded.logger import Logger
from grasp_nodes.embedded.parameters import SIM_TIME, Parameter, ParameterMixin
from grasp_nodes.embedded.qos import (
    PublisherEventCallbacks,
    QoSProfile,
    SubscriptionEventCallbacks,
    qos_profile_clock,
    qos_profile_services_default,
    to_profile,
)
from grasp_nodes.embedded.types import Message, message_class

_UNSUPPORTED = {
    "create_rate": "use create_timer",
    "get_node_names": "use the ros2 command line of a ROS 2 installation",
    "get_node_names_and_namespaces": "use the ros2 command line of a ROS 2 installation",
    "get_service_names_and_types": "use the ros2 command line of a ROS 2 installation",
    "get_publishers_info_by_topic": "use count_publishers",
    "get_subscriptions_info_by_topic": "use count_subscribers",
    "add_waitable": "use create_guard_condition",
}


def _refuse(where: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise NotSupportedByEmbeddedRuntime(f"the option {name!r} of {where}", "leave it out")


class Node(ParameterMixin):
    """A participant of the ROS graph with publishers, subscriptions, services, clients, timers and parameters.

    What is not rclpy's is private by name mangling, so that no attribute of a node's class can collide with it.
    """

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: Sequence[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: Sequence[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_rosout: bool = False,
        **options: Any,
    ) -> None:
        _refuse("Node", options | {"enable_rosout": enable_rosout or None})
        self.context = context or default_context
        self.__participant = self.context.participant()
        self.__arguments = self.context.arguments if use_global_arguments else parse_arguments([])
        if cli_args:
            own = parse_arguments(cli_args)
            own.remaps += self.__arguments.remaps
            own.parameters, own.parameter_files = (
                self.__arguments.parameters + own.parameters,
                self.__arguments.parameter_files + own.parameter_files,
            )
            self.__arguments = own
        self.__name = check_node_name(self.__arguments.node_name(node_name))
        self.__namespace = check_namespace(self.__arguments.namespace(node_name, namespace or "/"))
        self.executor: Executor | None = None
        self.default_callback_group: CallbackGroup = MutuallyExclusiveCallbackGroup()
        self.waitables: list[Waitable] = []
        self.timers: list[Timer] = []
        self.__publishers: list[Publisher] = []
        self.__subscriptions: list[Subscription] = []
        self.__services: list[Service] = []
        self.__clients: list[Client] = []
        self.__events: dict[Publisher | Subscription, QoSEvent] = {}
        self.__clock = ROSClock()
        self.__clock_subscription: Subscription | None = None
        self.__destroyed = False
        self.__is_built = False
        overrides = self.__arguments.overrides(self.__name, self.__namespace)
        overrides.update({parameter.name: parameter.value for parameter in parameter_overrides or ()})
        self.context.nodes.append(self)
        self._embedded_init_parameters(
            overrides, allow_undeclared_parameters, automatically_declare_parameters_from_overrides
        )
        self.declare_parameter(SIM_TIME, False)
        self.add_post_set_parameters_callback(self.__follow_sim_time)
        self.__follow_sim_time([self.get_parameter(SIM_TIME)])
        if start_parameter_services:
            self._embedded_create_parameter_services()
        self.__is_built = True
        self.__announce()

    def __getattr__(self, name: str) -> Any:
        if name in _UNSUPPORTED:
            raise NotSupportedByEmbeddedRuntime(f"Node.{name}", _UNSUPPORTED[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_name(self) -> str:
        """The node's name, remapped."""
        return self.__name

    def get_namespace(self) -> str:
        """The node's namespace, remapped."""
        return self.__namespace

    def get_fully_qualified_name(self) -> str:
        """Namespace and name."""
        return f"{self.__namespace.rstrip('/')}/{self.__name}"

    def get_logger(self) -> Logger:
        """The logger that prints under the node's name."""
        return Logger(self.get_fully_qualified_name()[1:].replace("/", "."))

    def get_clock(self) -> Clock:
        """The node's clock, which follows ``/clock`` if use_sim_time is true."""
        return self.__clock

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """A topic's full name, remapped unless only expanded."""
        full = expand_name(topic, self.__name, self.__namespace)
        return full if only_expand else self.__arguments.remap(full, self.__name, self.__namespace)

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        """A service's full name, remapped unless only expanded."""
        return self.resolve_topic_name(service, only_expand=only_expand)

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: PublisherEventCallbacks | None = None,
        **options: Any,
    ) -> Publisher:
        """Publish on a topic; the third argument is a profile or a depth."""
        _refuse("create_publisher", options)
        publisher = Publisher(self, _checked(msg_type), self.resolve_topic_name(topic), to_profile(qos_profile))
        self.__publishers.append(publisher)
        self.__watch(publisher, event_callbacks, callback_group)
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], object],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        raw: bool = False,
        **options: Any,
    ) -> Subscription:
        """Call back with every message of a topic (with its CDR bytes if ``raw``)."""
        _refuse("create_subscription", options)
        group, full_name = callback_group or self.default_callback_group, self.resolve_topic_name(topic)
        subscription = Subscription(self, _checked(msg_type), full_name, callback, to_profile(qos_profile), group, raw)
        self.__subscriptions.append(subscription)
        self.waitables.append(subscription)
        self.__watch(subscription, event_callbacks, callback_group)
        return subscription

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        """Answer requests with ``callback(request, response) -> response``."""
        group, name = callback_group or self.default_callback_group, self.resolve_service_name(srv_name)
        service = Service(self, _checked(srv_type), name, callback, qos_profile, group)
        self.__services.append(service)
        self.waitables.append(service)
        self.__announce()
        return service

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        """Send requests to a service."""
        group, name = callback_group or self.default_callback_group, self.resolve_service_name(srv_name)
        client = Client(self, _checked(srv_type), name, qos_profile, group)
        self.__clients.append(client)
        self.waitables.append(client)
        self.__announce()
        return client

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], object],
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        """Call back every period [s]."""
        timer = Timer(
            self, timer_period_sec, callback, callback_group or self.default_callback_group, clock or self.__clock
        )
        if not autostart:
            timer.cancel()
        self.timers.append(timer)
        self.__entities_changed()
        return timer

    def create_guard_condition(
        self, callback: Callable[[], object], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        """A condition whose ``trigger()``, from any thread, has the callback run in the executor."""
        guard = GuardCondition(self, callback, callback_group or self.default_callback_group)
        self.waitables.append(guard)
        self.__entities_changed()
        return guard

    def count_publishers(self, topic_name: str) -> int:
        """Number of publishers of a topic in the whole graph."""
        return self.__count("publication", topic_name)

    def count_subscribers(self, topic_name: str) -> int:
        """Number of subscriptions of a topic in the whole graph."""
        return self.__count("subscription", topic_name)

    def __count(self, kind: str, topic_name: str) -> int:
        wanted = f"rt{self.resolve_topic_name(topic_name)}"
        return sum(topic == wanted for topic, _ in self.__participant.endpoints(kind))

    def get_topic_names_and_types(self, no_demangle: bool = False) -> list[tuple[str, list[str]]]:
        """The graph's topics and their types."""
        _refuse("get_topic_names_and_types", {"no_demangle": no_demangle or None})
        found: dict[str, set[str]] = {}
        for kind in ("publication", "subscription"):
            for topic, type_name in self.__participant.endpoints(kind):
                if topic.startswith("rt/"):
                    readable = type_name.replace("::dds_::", "/").replace("::", "/").removesuffix("_")
                    found.setdefault(topic[2:], set()).add(readable)
        return [(topic, sorted(names)) for topic, names in sorted(found.items())]

    @property
    def publishers(self) -> list[Publisher]:
        """The node's publishers."""
        return list(self.__publishers)

    @property
    def subscriptions(self) -> list[Subscription]:
        """The node's subscriptions."""
        return list(self.__subscriptions)

    def destroy_publisher(self, publisher: Publisher) -> bool:
        """Leave a topic."""
        return self.__remove(publisher, self.__publishers, publisher.endpoint)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        """Leave a topic."""
        return self.__remove(subscription, self.__subscriptions, subscription.endpoint)

    def destroy_service(self, service: Service) -> bool:
        """Stop answering."""
        return self.__remove(service, self.__services, service.reader, service.writer)

    def destroy_client(self, client: Client) -> bool:
        """Stop asking."""
        return self.__remove(client, self.__clients, client.reader, client.writer)

    def destroy_timer(self, timer: Timer) -> bool:
        """Stop a timer for good."""
        if timer not in self.timers:
            return False
        timer.cancel()
        self.timers.remove(timer)
        return True

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        """Delete a guard condition."""
        if guard not in self.waitables:
            return False
        self.waitables.remove(guard)
        self.__entities_changed()
        guard.close()
        return True

    def destroy_node(self) -> None:
        """Leave the graph; everything of the node is destroyed with it."""
        if self.__destroyed:
            return
        self.__destroyed = True
        if self.executor is not None:
            self.executor.remove_node(self)
        owned: list[Any] = [*self.timers, *self.__clients, *self.__services, *self.__subscriptions, *self.__publishers]
        for entity in owned:
            entity.destroy()
        for waitable in [item for item in self.waitables if isinstance(item, GuardCondition)]:
            self.destroy_guard_condition(waitable)
        self.__participant.withdraw(self)
        if self in self.context.nodes:
            self.context.nodes.remove(self)

    def __watch(
        self,
        entity: Publisher | Subscription,
        events: PublisherEventCallbacks | SubscriptionEventCallbacks | None,
        group: CallbackGroup | None,
    ) -> None:
        event = watch_qos(self, entity.endpoint, entity.topic, events, group or self.default_callback_group)
        if event is not None:
            self.__events[entity] = event
            self.waitables.append(event)
        self.__announce()

    def __remove(self, entity: Any, owners: list[Any], *endpoints: dds.Writer | dds.Reader) -> bool:
        if entity not in owners:
            return False
        owners.remove(entity)
        gone = (entity, self.__events.pop(entity, None))
        self.waitables = [item for item in self.waitables if item not in gone]
        self.__announce()
        for endpoint in endpoints:
            endpoint.close()
        return True

    def __announce(self) -> None:
        """Tell the graph what the node consists of, and the executor what there is to wait for."""
        self.__entities_changed()
        if not self.__is_built or self.__destroyed:
            return  # one announcement instead of one per endpoint
        ends = [*self.__services, *self.__clients]
        readers = [item.endpoint.gid for item in self.__subscriptions] + [item.reader.gid for item in ends]
        writers = [item.endpoint.gid for item in self.__publishers] + [item.writer.gid for item in ends]
        self.__participant.announce(self, self.__namespace, self.__name, readers, writers)

    def __entities_changed(self) -> None:
        if self.executor is not None:
            self.executor.entities_changed()

    def __follow_sim_time(self, parameters: Sequence[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name != SIM_TIME:
                continue
            if parameter.value and self.__clock_subscription is None:
                self.__clock.simulate(0)
                self.__clock_subscription = self.create_subscription(
                    message_class("rosgraph_msgs/msg/Clock"), "/clock", self.__on_clock, qos_profile_clock
                )
            elif not parameter.value and self.__clock_subscription is not None:
                self.destroy_subscription(self.__clock_subscription)
                self.__clock_subscription = None
                self.__clock.simulate(None)

    def __on_clock(self, message: Any) -> None:
        if self.__clock_subscription is not None:
            self.__clock.simulate(message.clock.sec * 1_000_000_000 + message.clock.nanosec)


def _checked(interface: Any) -> Any:
    """The message or service class, refused if it is something else."""
    if isinstance(interface, type) and (issubclass(interface, Message) or hasattr(interface, "__srvtype__")):
        return interface
    raise TypeError(f"expected a message or service class of the embedded runtime, got {interface!r}")
