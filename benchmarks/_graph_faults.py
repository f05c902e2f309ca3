"""Faults of a graph, each in a process and on a DDS domain of its own: ``python -m benchmarks._graph_faults NAME``.

Each function does something bad to a graph and returns numbers; what must hold is asserted, so that a benchmark that
ends has passed. `robustness` runs them all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._graph_processes import Monitor, Processes, graph, isolated, wait_for

INFO, EVIDENCE, STATE = "camera/color/camera_info", "evidence", "hand_object/state"
TOPICS = {
    INFO: ("sensor_msgs", "CameraInfo"),
    EVIDENCE: ("grasp_msgs", "Evidence"),
    STATE: ("grasp_msgs", "HandObjectState"),
    "/diagnostics": ("diagnostic_msgs", "DiagnosticArray"),
}
OUTPUT_OF = {"source_node": INFO, "perception_node": EVIDENCE, "fitting_node": STATE}
SOURCE = ("loop:=true", "pace:=realtime", "rate:=30.0")
STORM_PUBLISHERS, STORM_RATE_HZ = 100, 3.0
PICTURE = 640 * 480 * 3
PICTURES = ("sensor_msgs", "Image")
SIDES = ("left", "right")
DISK_MB = 40
FLAT_MB = 16.0
"""In the last two fifths of a soak: what allocators take and give back. Caches are full before."""


def _start_graph(processes: Processes, monitor: Monitor) -> None:
    processes.node("perception_node")
    processes.node("fitting_node")
    processes.node("source_node", *SOURCE)
    wait_for(lambda: monitor.counts[STATE] > 3, "the first states")


def soak() -> dict[str, float]:
    """The demo's graph at 30 Hz for GRASP_NODES_SOAK_MINUTES (1): messages, and memory after each fifth of the time."""
    seconds = 60 * float(os.environ.get("GRASP_NODES_SOAK_MINUTES", "1"))
    with graph(TOPICS) as (processes, monitor):
        _start_graph(processes, monitor)
        time.sleep(seconds / 5)
        memory, counts, begin = [processes.memory_mb()], dict(monitor.counts), time.monotonic()
        for _ in range(4):
            time.sleep(seconds / 5)
            memory.append(processes.memory_mb())
        elapsed = time.monotonic() - begin
        assert processes.all_alive()
        sent, evidence, states = (monitor.counts[topic] - counts[topic] for topic in (INFO, EVIDENCE, STATE))
    values = {"seconds": elapsed, "frames_sent": sent, "sent_hz": sent / elapsed}
    values |= {"evidence_received": evidence, "states_received": states}
    first, middle, last = memory[0], memory[2], memory[4]
    for name in first:
        values |= {f"{name}_start_mb": first[name], f"{name}_middle_mb": middle[name], f"{name}_end_mb": last[name]}
        assert last[name] - middle[name] < FLAT_MB, f"{name} grew from {middle[name]:.0f} to {last[name]:.0f} MB"
    return values


def restart() -> dict[str, float]:
    """Every node is killed and started again: the others go on, and it rejoins."""
    values = {}
    with graph(TOPICS) as (processes, monitor):
        _start_graph(processes, monitor)
        for name, topic in OUTPUT_OF.items():
            processes.kill(name)
            monitor.next_of("/diagnostics", 10.0)
            assert processes.all_alive(), f"another node ended with {name}"
            time.sleep(1.0)
            begin = time.monotonic()
            processes.node(name, *(SOURCE if name == "source_node" else ()))
            monitor.next_of(topic)
            values[f"{name}_back_s"] = time.monotonic() - begin
            values[f"{name}_graph_back_s"] = values[f"{name}_back_s"] + monitor.next_of(STATE)
    return values


def _peer(processes: Processes, role: str, *arguments: str) -> subprocess.Popen[str]:
    return processes.start(
        role + "".join(arguments), [sys.executable, "-m", "benchmarks._graph_faults", role, *arguments]
    )


def slow_subscriber() -> dict[str, float]:
    """One subscriber sleeps a second over every picture: who publishes, and who else listens, does not notice."""
    with graph({"picture": PICTURES}) as (processes, monitor):
        _peer(processes, "publish_pictures", "30")
        wait_for(lambda: monitor.counts["picture"] > 10, "pictures")
        before = monitor.counts["picture"]
        time.sleep(3.0)
        alone = (monitor.counts["picture"] - before) / 3.0
        _peer(processes, "sleep_over_pictures")
        wait_for(lambda: monitor.listeners("picture", *PICTURES) > 1, "the slow subscriber")
        before, start_mb = monitor.counts["picture"], processes.memory_mb()
        time.sleep(8.0)
        beside = (monitor.counts["picture"] - before) / 8.0
        end_mb = processes.memory_mb()
        assert processes.all_alive()
    growth = max(end_mb[name] - start_mb[name] for name in start_mb)
    return {"rate_alone_hz": alone, "rate_beside_slow_hz": beside, "memory_growth_mb": growth}


def storm() -> dict[str, float]:
    """A hundred publishers, ten times the usual rate together, on one topic of a recorder."""
    with (
        tempfile.TemporaryDirectory() as folder,
        graph({"/diagnostics": TOPICS["/diagnostics"]}) as (processes, monitor),
    ):
        processes.node("recorder_node", f"output:={folder}/bag", "topics:=['hand_object/state']", "input_depth:=1000")
        wait_for(lambda: monitor.listeners(STATE, *TOPICS[STATE]) > 0, "the recorder")
        start_mb = processes.memory_mb()["recorder_node"]
        sender = _peer(processes, "storm_of_states")
        sent = json.loads(sender.communicate(timeout=120)[0])["sent"]
        processes.running.pop("storm_of_states")
        monitor.next_of("/diagnostics", 10.0)
        assert processes.all_alive()
        end_mb = processes.memory_mb()["recorder_node"]
        from std_srvs.srv import Trigger

        answer = monitor.call("/recorder_node/stop", Trigger)
        received = int(answer.message.split()[1])
    return {"sent": sent, "recorded": received, "recorder_start_mb": start_mb, "recorder_end_mb": end_mb}


def full_disk() -> dict[str, float]:
    """A recorder fills a small disk: it stops, lives on, and its bag can be read."""
    command = [sys.executable, "-m", "benchmarks._graph_faults", "record_to_small_disk"]
    shell = f'mount -t tmpfs -o size={DISK_MB}m tmpfs "$0" && exec "$@"'
    with tempfile.TemporaryDirectory() as folder:
        run = ["unshare", "-rm", "sh", "-c", shell, folder, *command, folder]
        done = subprocess.run(run, env=dict(os.environ), stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    return json.loads(done.stdout.strip().splitlines()[-1])


def clock_jumps() -> dict[str, float]:
    """Time jumps an hour ahead and back again: nodes with use_sim_time go on in the new time."""
    topics = {"/diagnostics": TOPICS["/diagnostics"]}
    with tempfile.TemporaryDirectory() as folder, graph(topics) as (processes, monitor):
        from builtin_interfaces.msg import Time
        from rosgraph_msgs.msg import Clock

        clock = monitor.node.create_publisher(Clock, "/clock", 10)
        settings = (f"output:={folder}/bag", "topics:=['hand_object/state']", "diagnostics_period_s:=0.2")
        processes.node("recorder_node", "use_sim_time:=true", *settings)
        values, now = {}, 1000.0

        def run(seconds: float) -> int:
            nonlocal now
            before, end = monitor.counts["/diagnostics"], time.monotonic() + seconds
            while time.monotonic() < end:
                now += 0.02
                clock.publish(Clock(clock=Time(sec=int(now), nanosec=int(now % 1 * 1e9))))
                time.sleep(0.02)
            return monitor.counts["/diagnostics"] - before

        begin = time.monotonic()
        while not run(0.5):
            assert time.monotonic() - begin < 120, "no diagnostics in simulated time"
        for name, jump in (("steady", 0.0), ("ahead", 3600.0), ("back", -3600.0)):
            now += jump
            values[f"{name}_diagnostics_in_3_s"] = run(3.0)
        assert processes.all_alive()
    return values


def domains() -> dict[str, float]:
    """Two graphs on two domains of one machine do not hear each other."""
    topics = {"picture": PICTURES}
    here = int(os.environ["ROS_DOMAIN_ID"])
    with graph(topics) as (processes, monitor):
        other = Processes(isolated(here % 200 + 1))
        try:
            _peer(other, "publish_pictures", "30")
            time.sleep(6.0)
            crossed = monitor.counts["picture"]
            _peer(processes, "publish_pictures", "10")
            own = monitor.next_of("picture")
            assert crossed == 0, "a picture of another domain came"
        finally:
            other.close()
    return {"heard_of_the_other": crossed, "own_discovered_s": own}


def namespaces() -> dict[str, float]:
    """Two recorders in two namespaces are found, and called, each by its own name."""
    with tempfile.TemporaryDirectory() as folder, graph({}) as (processes, monitor):
        from std_srvs.srv import Trigger

        begin = time.monotonic()
        for side in SIDES:
            settings = (f"output:={folder}/{side}", "topics:=['hand_object/state']")
            processes.node("recorder_node", *settings, namespace=f"/lab/{side}")
        wait_for(lambda: all(monitor.listeners(f"/lab/{one}/{STATE}", *TOPICS[STATE]) for one in SIDES), "both")
        found = time.monotonic() - begin
        for side in SIDES:
            answer = monitor.call(f"/lab/{side}/recorder_node/stop", Trigger)
            assert answer.message.endswith(f"/{side}"), answer.message
    return {"both_found_s": found}


# -- what runs in processes of its own


def publish_pictures(rate: str) -> None:
    """Pictures at a rate until killed."""
    import numpy as np

    monitor = Monitor({})
    from sensor_msgs.msg import Image

    publisher = monitor.node.create_publisher(Image, "picture", 5)
    data = np.zeros(PICTURE, np.uint8)
    while True:
        publisher.publish(Image(height=480, width=640, step=1920, encoding="rgb8", data=data))
        time.sleep(1 / float(rate))


def sleep_over_pictures() -> None:
    """A reliable subscriber that sleeps a second in each call."""
    monitor = Monitor({})
    from sensor_msgs.msg import Image

    monitor.node.create_subscription(Image, "picture", lambda _: time.sleep(1.0), 5)
    time.sleep(3600)


def storm_of_states() -> None:
    """Many publishers of small states for ten seconds; says how many messages it sent."""
    monitor = Monitor({})
    from grasp_msgs.msg import HandObjectState

    publishers = [monitor.node.create_publisher(HandObjectState, STATE, 100) for _ in range(STORM_PUBLISHERS)]
    wait_for(lambda: all(one.get_subscription_count() for one in publishers), "the recorder")
    begin, sent = time.monotonic(), 0
    message = HandObjectState(status_text="storm")
    while (elapsed := time.monotonic() - begin) < 10.0:
        while sent < elapsed * STORM_PUBLISHERS * STORM_RATE_HZ:
            publishers[sent % STORM_PUBLISHERS].publish(message)
            sent += 1
        time.sleep(0.005)
    time.sleep(1.0)
    print(json.dumps({"sent": sent}), flush=True)


def record_to_small_disk(folder: str) -> None:
    """Within a mount of its own: record pictures until the disk is full, and read what is there."""
    with graph({"/diagnostics": TOPICS["/diagnostics"]}) as (processes, monitor):
        settings = (f"output:={folder}/bag", "topics:=['picture:sensor_msgs/msg/Image']", "min_free_mb:=0.0")
        processes.node("recorder_node", *settings)
        wait_for(lambda: monitor.listeners("picture", *PICTURES) > 0, "the recorder")
        _peer(processes, "publish_pictures", "30")
        wait_for((Path(folder) / "bag" / "metadata.yaml").is_file, "the bag of a full disk")
        monitor.next_of("/diagnostics", 10.0)
        assert processes.all_alive()
        from rosbags.highlevel import AnyReader

        with AnyReader([Path(folder) / "bag"]) as reader:
            sizes = [len(reader.deserialize(data, one.msgtype).data) for one, _, data in reader.messages()]
        assert len(sizes) > DISK_MB / 3
        assert set(sizes) == {PICTURE}
    print(json.dumps({"disk_mb": DISK_MB, "pictures_in_bag": len(sizes)}), flush=True)


FAULTS = (soak, restart, slow_subscriber, storm, full_disk, clock_jumps, domains, namespaces)
ROLES: dict[str, Any] = {
    "publish_pictures": publish_pictures,
    "sleep_over_pictures": sleep_over_pictures,
    "storm_of_states": storm_of_states,
    "record_to_small_disk": record_to_small_disk,
}


def main() -> None:
    """Run a fault, whose numbers are the last line, or one of its processes."""
    name, *arguments = sys.argv[1:]
    fault = next((one for one in FAULTS if one.__name__ == name), None)
    if fault is not None:
        print(json.dumps(fault()), flush=True)
    else:
        ROLES[name](*arguments)


if __name__ == "__main__":
    main()
