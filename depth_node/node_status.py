"""The node's status as its parts know it, for diagnostics.py."""

from __future__ import annotations

from dataclasses import replace

from depth_node.backends import SupervisedSession
from depth_node.diagnostics import NodeStatus
from depth_node.input_stream import HEAVY_LOSS
from depth_node.inputs import Inputs
from depth_node.model import ModelFile
from depth_node.online_intrinsics import OnlineIntrinsics
from depth_node.online_scale import OnlineScale


def with_model(status: NodeStatus, model: ModelFile, session: SupervisedSession) -> NodeStatus:
    """The status of a configured node."""
    return replace(
        status,
        model=str(model.path),
        model_checksum=model.checksum,
        backend=session.name,
        device=session.device,
        precision=session.precision,
        backend_state=session.state,
    )


def with_work(
    status: NodeStatus, inputs: Inputs, silence: str, intrinsics: OnlineIntrinsics, scale: OnlineScale
) -> NodeStatus:
    """The status of an active node; silence: why no images come in, empty if they do."""
    share = inputs.lost_share
    return replace(
        status,
        silence=silence,
        lost_share=share,
        input_loss=f"{share:.0%} of the recent images were lost" if share > HEAVY_LOSS else "",
        intrinsics=intrinsics.facts(),
        intrinsics_warning=intrinsics.warning,
        scale=scale.estimate,
        odometry_silence=scale.silence(),
    )
