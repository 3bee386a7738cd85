"""The tool `view`: a ROS node that hears a depth node, and a Rerun recording that is served or saved."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from depth_node.errors import DepthNodeError
from depth_node.tools.view.options import ALL_ADDRESSES, image_topic, parse_arguments

if TYPE_CHECKING:
    import rerun as rr

    from depth_node.tools.view.scene import SceneOptions
    from depth_node.tools.view.subscriber import Subscriber

SPIN_SECONDS = 0.1  # Python sees a signal only between two waits of the executor
SILENCE_SECONDS = 5.0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 at SIGINT, SIGTERM or the end of --duration, when the recording is closed.

    Raises:
        DepthNodeError: rerun-sdk is not installed, a port is taken, or the file cannot be written.
    """
    ros_arguments = list(sys.argv[1:] if argv is None else argv)
    own_arguments = (
        ros_arguments[: ros_arguments.index("--ros-args")] if "--ros-args" in ros_arguments else ros_arguments
    )
    arguments = parse_arguments(own_arguments)
    try:
        import rerun as rr
    except ModuleNotFoundError as error:
        if error.name != "rerun":
            raise
        raise DepthNodeError("needs the Python package rerun-sdk: pip install 'depth_node[view]'") from error
    from depth_node.tools.view.frame_selector import FrameSelector
    from depth_node.tools.view.scene import APPLICATION, Scene, SceneOptions
    from depth_node.tools.view.subscriber import Subscriber, ros_node
    from depth_node.transport import use_shipped_fastdds_profile

    options = SceneOptions(
        cloud=arguments.cloud,
        confidence=arguments.confidence,
        scan=arguments.scan,
        max_points=arguments.max_points,
        jpeg_quality=arguments.jpeg_quality,
        color_max_depth=arguments.color_max_depth,
        is_live=arguments.save is None,
    )
    is_stopped = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(signals_set(is_stopped))
        recording = rr.RecordingStream(APPLICATION)
        stack.callback(recording.disconnect)
        recording.send_recording_name(f"depth_node {arguments.namespace}".strip())
        use_shipped_fastdds_profile()
        node, executor = stack.enter_context(ros_node(ros_arguments, arguments.namespace))
        if arguments.save is not None:
            save_to(recording, arguments.save, options)
        else:
            stack.enter_context(serving(recording, arguments, options))
        selector = FrameSelector(arguments.max_rate)
        subscriber = Subscriber(node, Scene(recording, options), options, image_topic(arguments), selector)
        spin(executor.spin_once, subscriber, is_stopped, arguments.duration)
    if arguments.save is not None:
        size = arguments.save.stat().st_size / 1e6
        print(
            f"{arguments.save}: {subscriber.shown['depth/image']} depth images, {size:.1f} MB. Open it with: rerun FILE"
        )
    return 0


def save_to(recording: rr.RecordingStream, path: Path, options: SceneOptions) -> None:
    """Begin a recording file.

    Raises:
        DepthNodeError: it cannot be written.
    """
    from depth_node.tools.view.scene import blueprint

    try:
        path.open("wb").close()  # Rerun would say it in its log only
    except OSError as error:
        raise DepthNodeError(f"cannot write {path}: {error.strerror}") from error
    recording.save(path, default_blueprint=blueprint(options))


@contextmanager
def serving(recording: rr.RecordingStream, arguments: argparse.Namespace, options: SceneOptions) -> Iterator[None]:
    """Serve the data and the viewer's page, and say where.

    Raises:
        DepthNodeError: a port is taken, or the memory limit is no size.
    """
    import rerun as rr

    from depth_node.tools.view.relay import Relay
    from depth_node.tools.view.scene import blueprint
    from depth_node.tools.view.web_page import WebPage, free_port, load_assets, own_host_names

    bind, grpc_port = arguments.bind, arguments.grpc_port
    names = [*arguments.host, *own_host_names()]
    data_port = free_port()
    with (
        closing(Relay(bind, grpc_port, data_port)),
        closing(WebPage(load_assets(), bind, arguments.port, grpc_port, names)),
    ):
        # Newest first: who comes late sees the present before the past. Data on another port is another origin.
        sink = rr.GrpcServerSink(
            "127.0.0.1",
            data_port,
            server_memory_limit=arguments.memory_limit,
            newest_first=True,
            cors_allow_origin=[f"http://{name}:{arguments.port}" for name in names],
        )
        try:
            recording.set_sinks(sink, default_blueprint=blueprint(options))
        except RuntimeError as error:
            raise DepthNodeError(f"cannot serve data: {error}") from error
        first = arguments.host[:1] or (names[:3] if bind == ALL_ADDRESSES else [bind])
        print(f"Open in a browser: {'   or   '.join(f'http://{name}:{arguments.port}' for name in first)}", flush=True)
        yield


def spin(
    spin_once: Callable[[float], None], subscriber: Subscriber, is_stopped: threading.Event, duration: float
) -> None:
    """Receive until stopped; after a while without depth, say once why there is none."""
    started = time.monotonic()
    is_told = False
    while not is_stopped.is_set() and (seconds := time.monotonic() - started) < duration:
        spin_once(min(SPIN_SECONDS, duration - seconds))
        if not is_told and seconds > SILENCE_SECONDS:
            is_told = True
            if missing := subscriber.missing():
                print(f"view: {missing}", file=sys.stderr, flush=True)


@contextmanager
def signals_set(is_stopped: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set the event, so that the recording is closed."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: is_stopped.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
