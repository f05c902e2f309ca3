"""Message packages and rclpy for the tests of nodes: the embedded runtime, on this machine's loopback only."""

import os
import random

from grasp_nodes import embedded
from grasp_nodes.paths import share_dir

os.environ.setdefault("GRASP_NODES_ROS", "embedded")
os.environ["CYCLONEDDS_URI"] = embedded.loopback_uri()
os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randrange(1, 200)))

SHARE = share_dir()
embedded.install({"grasp_msgs": [SHARE / "msg", SHARE / "srv"]}, {"grasp_nodes": SHARE})
