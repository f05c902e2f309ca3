"""Opens a page in the user's browser where there is a desktop."""

from __future__ import annotations

import os
import sys
import webbrowser


def has_desktop() -> bool:
    """Whether a browser window can be shown: a display server on Linux, always on Windows and macOS."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_in_browser(address: str) -> bool:
    """Open `address` in a new tab.

    Returns:
        Whether a browser was started; false without a desktop, where the caller prints the address instead.
    """
    return has_desktop() and webbrowser.open_new_tab(address)
