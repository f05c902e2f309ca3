"""Human hands grasping objects, from video or from a generator, as ROS 2 messages.

The package is a house of floors; a room imports only from floors below its own:

10 ``cli`` · 9 ``nodes``, ``embedded`` · 8 ``viewer``, ``export``, ``retargeting`` · 7 ``synthesis``, ``miho`` ·
6 ``data``, ``learning`` · 5 ``fitting`` · 4 ``evaluation`` · 3 ``perception`` · 2 ``contact`` ·
1 ``hand``, ``objects`` · 0 ``geometry`` and this module with ``errors`` and ``paths``, on which everything may stand.

Units inside the package: metres, radians, seconds, kilograms; arrays are row-major and batch first.
"""

__version__ = "0.1.0"
