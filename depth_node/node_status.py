"""The node's status as its parts know it, for diagnostics.py; and faults that are worth a line only if they last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from depth_node.backends import SupervisedSession
from depth_node.diagnostics import NodeStatus
from depth_node.input_stream import HEAVY_LOSS
from depth_node.inputs import Inputs
from depth_node.model import ModelFile
from depth_node.online_intrinsics import OnlineIntrinsics
from depth_node.online_scale import OnlineScale
from depth_node.outputs import Outputs
from depth_node.statistics import Statistics

# Periods of diagnostics. One that was killed is in the graph of ROS for another 20 s, beside the one that follows it.
SILENCE_PERIODS, RIVAL_PERIODS = 5, 30

Say = Callable[[str], object]


class LastingFault:
    """A fault that may be over at once: said when it has lasted, each time that it comes, and when it ends.

    sentence: of the fault, once it has lasted; empty as long as it has not, and if there is none.
    """

    def __init__(self, periods: int, say: Say, say_end: Callable[[], object]) -> None:
        self.sentence = ""
        self._periods = periods
        self._say, self._say_end = say, say_end
        self._seen = 0

    def note(self, fault: str) -> None:
        """What is wrong in this period; empty if nothing is."""
        self._seen = self._seen + 1 if fault else 0
        was_said, self.sentence = bool(self.sentence), fault if self._seen >= self._periods else ""
        if self.sentence and not was_said:
            self._say(self.sentence)
        elif was_said and not self.sentence:
            self._say_end()


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


class WorkWatch:
    """What is wrong around an active node, to be looked at once in a period of diagnostics; logged where it lasts.

    silence: why no images came in when it was looked at; empty if they did.
    """

    def __init__(
        self, inputs: Inputs, outputs: Outputs, scale: OnlineScale, statistics: Statistics, warn: Say, inform: Say
    ) -> None:
        """warn, inform: log a sentence at that level."""
        self.silence = ""
        self._inputs, self._outputs, self._scale, self._statistics = inputs, outputs, scale, statistics
        self._lasting_silence = LastingFault(
            SILENCE_PERIODS, warn, lambda: inform(f"images come in on {inputs.image_topic}")
        )
        self._odometry_silence = LastingFault(SILENCE_PERIODS, warn, lambda: inform("odometry comes in"))
        self._rivals = LastingFault(RIVAL_PERIODS, warn, lambda: inform("nobody else publishes depth"))

    def look(self) -> None:
        """Log what has lasted by now, or is over."""
        self.silence = self._inputs.silence() if self._statistics.input_hz == 0 else ""
        self._lasting_silence.note(self.silence)
        self._odometry_silence.note(self._scale.silence())
        self._rivals.note(self._outputs.rivals())

    @property
    def rivals(self) -> str:
        """Who else publishes depth where this node does; empty if nobody has, for a while."""
        return self._rivals.sentence


def with_work(
    status: NodeStatus, inputs: Inputs, watch: WorkWatch, intrinsics: OnlineIntrinsics, scale: OnlineScale
) -> NodeStatus:
    """The status of an active node."""
    share = inputs.lost_share
    return replace(
        status,
        silence=watch.silence,
        rivals=watch.rivals,
        lost_share=share,
        input_loss=f"{share:.0%} of the recent images were lost" if share > HEAVY_LOSS else "",
        intrinsics=intrinsics.facts(),
        intrinsics_warning=intrinsics.warning,
        scale=scale.estimate,
        odometry_silence=scale.silence(),
    )
