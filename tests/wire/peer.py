"""The other process of the wire tests: an ordinary rclpy node file that reports as JSON lines."""

import hashlib
import json
import sys

from grasp_nodes import embedded
from grasp_nodes.paths import share_dir

SHARE = share_dir()
embedded.install({"grasp_msgs": [SHARE / "msg", SHARE / "srv"]}, {"grasp_nodes": SHARE})

import rclpy  # noqa: E402
from grasp_msgs.msg import ContactMap  # noqa: E402
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor  # noqa: E402
from rclpy.executors import ExternalShutdownException  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Peer(Node):
    def __init__(self):
        super().__init__("peer", namespace="/wire")
        limits = FloatingPointRange(from_value=0.0, to_value=10.0)
        self.declare_parameter("rate", 1.0, ParameterDescriptor(description="Hz", floating_point_range=[limits]))
        self.declare_parameter("model", "open", ParameterDescriptor(read_only=True))
        self.declare_parameter("hand.sides", ["left", "right"])
        self.create_subscription(Image, "image", self.on_image, qos_profile_sensor_data)
        self.subscription = self.create_subscription(ContactMap, "contact", self.on_contact, 100)
        self.echo = self.create_publisher(ContactMap, "echo", 10)
        self.create_publisher(ContactMap, "best_effort", qos_profile_sensor_data)
        self.latched = self.create_publisher(ContactMap, "latched", LATCHED)
        self.latched.publish(ContactMap(object_id="old"))
        self.latched.publish(ContactMap(object_id="latched"))
        self.create_service(SetBool, "~/enable", self.on_enable)
        self.client = self.create_client(SetBool, "/wire/tester/enable")

    def on_image(self, message):
        digest = hashlib.sha256(message.data).hexdigest()
        stamp = [message.header.stamp.sec, message.header.stamp.nanosec]
        say(image={"sha256": digest, "size": [message.width, message.height], "stamp": stamp})

    def on_contact(self, message):
        say(contact=message.object_id, dropped=self.subscription.dropped)
        self.echo.publish(message)

    def on_enable(self, request, response):
        response.success, response.message = request.data, "peer"
        if self.client.wait_for_service(0):
            future = self.client.call_async(SetBool.Request(data=not request.data))
            future.add_done_callback(lambda done: say(reply=[done.result().success, done.result().message]))
        return response


def main():
    rclpy.init()
    node = Peer()
    say(ready=node.get_fully_qualified_name())
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException) as end:
        say(end=type(end).__name__)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
