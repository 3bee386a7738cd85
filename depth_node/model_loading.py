"""Models of the node's settings, in sessions that are supervised: what is slow or fails does not hold up the node."""

from __future__ import annotations

from depth_node.backends import BackendOptions, DepthModel, MotionModel, SupervisedSession, TensorRtOptions, supervise
from depth_node.intrinsics.observation import MotionObserver
from depth_node.model import read_model, read_motion_model
from depth_node.parameters import Settings
from depth_node.pipeline import DepthPipeline
from depth_node.resources import find_model


def load_pipeline(settings: Settings) -> tuple[DepthPipeline, SupervisedSession]:
    """The depth model of the settings, and the session that it runs in.

    Where an engine has to be built first, that goes on in the background; another backend serves meanwhile, or nothing.

    Raises:
        ModelFileError, BackendError: it cannot be loaded.
    """
    model = read_model(find_model(settings.model))
    session = supervise(model, _backend_options(settings, settings.threads), settings.backend_fallback)
    try:
        session.wait_until_decided()
        pipeline = DepthPipeline(model, DepthModel(model, session))
        if session.is_serving:
            pipeline.warm_up()
    except BaseException:
        session.close()
        raise
    return pipeline, session


def load_motion_observer(settings: Settings) -> MotionObserver | None:
    """The motion model of the settings, on their backend; None if they name none. Otherwise as `load_pipeline`."""
    if not settings.intrinsics_motion_model:
        return None
    model = read_motion_model(find_model(settings.intrinsics_motion_model))
    # One thread: depth has the others.
    session = supervise(model, _backend_options(settings, threads=1), settings.backend_fallback)
    try:
        session.wait_until_decided()
    except BaseException:
        session.close()
        raise
    return MotionObserver(model.spec, MotionModel(model, session))


def _backend_options(settings: Settings, threads: int) -> BackendOptions:
    tensorrt = TensorRtOptions(workspace_mib=settings.tensorrt_workspace, cuda_graph=settings.tensorrt_cuda_graph)
    return BackendOptions(settings.backend, settings.precision, threads, tensorrt, settings.inference_timeout)
