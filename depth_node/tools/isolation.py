"""ROS processes among themselves: not heard by, and not hearing, what else runs on the machine or its network."""

from __future__ import annotations

import random

from depth_node.resources import share_file


def isolated_environment() -> dict[str, str]:
    """Environment variables: a DDS domain drawn at random, this machine only, large messages through shared memory.

    Domains 1 to 101 are the ones whose ports never meet those that the kernel hands out.
    """
    return {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(share_file("config/fastdds.xml")),
    }
