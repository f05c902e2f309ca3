#!/bin/sh
# Installs Debian or Ubuntu packages by group where it may (root, or sudo that asks nothing); else prints the line to run.
# Usage: .ci/debian_packages.sh venv|demo|test|colcon ...   Exit code 1: something is still missing.
set -u

packages=""
for group in "$@"; do
    case "$group" in
        venv) packages="$packages python3-venv" ;;
        # Open3D links libusb and OpenGL; pyrender draws through EGL on the software renderer.
        demo) packages="$packages libusb-1.0-0 libgl1 libegl1 libgl1-mesa-dri libx11-6" ;;
        # The browser page is looked at in a headless browser.
        test) packages="$packages chromium" ;;
        colcon) packages="$packages gcc colcon python3-colcon-ros python3-colcon-package-information
            python3-colcon-package-selection ament-cmake python3-ament-package python3-ament-index rosidl-tools
            rosidl-generator-c-cpp librosidl-runtime-c-cpp-dev librcutils-dev" ;;
        *) echo "unknown group '$group': expected venv, demo, test or colcon" >&2; exit 2 ;;
    esac
done

command -v dpkg-query >/dev/null 2>&1 || { echo "not a Debian system: provide the counterparts of:" $packages >&2; exit 1; }

missing() {
    for package in $packages; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || printf '%s ' "$package"
    done
}

wanted=$(missing)
[ -z "$wanted" ] && exit 0

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "Debian packages are missing; run:  sudo apt-get install --no-install-recommends $wanted" >&2
    exit 1
fi

echo "installing Debian packages: $wanted"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq </dev/null >/dev/null 2>&1
$as_root apt-get install -y -qq --no-install-recommends $wanted </dev/null >/dev/null 2>&1

wanted=$(missing)
[ -z "$wanted" ] && exit 0
echo "Debian packages could not be installed; run:  apt-get install --no-install-recommends $wanted" >&2
exit 1
