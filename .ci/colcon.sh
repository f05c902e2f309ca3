#!/bin/sh
# Builds and installs grasp_nodes with Debian's colcon, and translates and compiles the messages with Debian's rosidl.
# Debian alone cannot build grasp_msgs (it has no rosidl_default_generators): that needs a ROS 2 installation.
# Usage: .ci/colcon.sh   (from the repository's root, after make venv)
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python="$root/.venv/bin/python"
"$root/.ci/debian_packages.sh" colcon || { echo "skipped: colcon and rosidl are not installed"; exit 0; }

"$python" "$root/.ci/check_messages.py"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Debian's tools need Debian's Python; a copy keeps build products out of the checkout.
export PATH=/usr/bin:/bin
unset VIRTUAL_ENV PYTHONPATH || true
git -C "$root" ls-files -z | (cd "$root" && xargs -0 cp -P --parents -t "$work")
cd "$work/ros2_ws"

found=$(colcon list --names-only | sort | tr '\n' ' ')
[ "$found" = "grasp_msgs grasp_nodes " ] || { echo "colcon list found '$found', expected grasp_msgs and grasp_nodes"; exit 1; }
colcon build --packages-ignore grasp_msgs --event-handlers console_direct- >"$work/build.log" 2>&1 \
    || { cat "$work/build.log"; exit 1; }

prefix="$work/ros2_ws/install/grasp_nodes"
expect() { [ -e "$prefix/$1" ] || { echo "colcon did not install $1"; exit 1; }; }
expect share/ament_index/resource_index/packages/grasp_nodes
for node in "$root"/grasp_nodes/nodes/*_node.py; do
    expect "lib/grasp_nodes/$(basename "$node" .py)"
done
expect lib/grasp_nodes/grasp-nodes
head -1 "$prefix/lib/grasp_nodes/grasp-nodes" | grep -q '^#!/usr/bin/env python3' \
    || { echo "the installed scripts name a fixed Python, which misses a virtual environment"; exit 1; }
installed=0
for file in $(cd "$root" && git ls-files 'launch/*.launch.py' 'config/*.yaml' 'config/rviz/*.rviz' 'msg/*.msg' 'srv/*.srv'); do
    expect "share/grasp_nodes/$file"
    installed=$((installed + 1))
done
echo "colcon built grasp_nodes: $(ls "$prefix/lib/grasp_nodes" | wc -l) executables, $installed shared files"
