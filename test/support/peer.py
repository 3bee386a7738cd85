"""The other end of a topic, as a process that can be killed: publishes grey images, or receives depth images.

Writes a line per message to standard output.
"""

from __future__ import annotations

import argparse
import sys

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["publish", "subscribe"])
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--topic", default="")
    parser.add_argument("--reliability", choices=["reliable", "best_effort"], default="reliable")
    parser.add_argument("--hz", type=float, default=20.0)
    parser.add_argument("--grey", type=int, default=100)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--height", type=int, default=32)
    parser.add_argument("--frame_id", default="camera_optical")
    options = parser.parse_args()

    rclpy.init(args=[])
    node = rclpy.create_node("peer", namespace=options.namespace)
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[options.reliability.upper()])

    if options.role == "subscribe":

        def report(message: Image) -> None:
            sys.stdout.write("received\n")
            sys.stdout.flush()

        node.create_subscription(Image, options.topic or "depth/image", report, qos)
    else:
        publisher = node.create_publisher(Image, options.topic or "image", qos)
        pixels = bytes([options.grey]) * (options.width * options.height)

        def publish() -> None:
            header = Header(stamp=node.get_clock().now().to_msg(), frame_id=options.frame_id)
            image = Image(
                header=header, height=options.height, width=options.width, encoding="mono8", step=options.width
            )
            image.data.frombytes(pixels)
            publisher.publish(image)
            sys.stdout.write("published\n")
            sys.stdout.flush()

        node.create_timer(1 / options.hz, publish)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
