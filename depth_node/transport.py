"""Which Fast DDS profile a process of ours starts with."""

from __future__ import annotations

import os

from depth_node.resources import share_file

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def use_shipped_fastdds_profile() -> None:
    """Give large messages a large shared-memory segment (config/fastdds.xml), unless the user chose a profile.

    To be called before the first ROS node; other middlewares do not look at it.
    """
    if not any(variable in os.environ for variable in PROFILE_VARIABLES):
        os.environ[PROFILE_VARIABLES[0]] = str(share_file("config/fastdds.xml"))
