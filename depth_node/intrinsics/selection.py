"""Which camera points are computed with: the calibrated, the learned, or the model's prior; and its changes, slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from depth_node.camera import PinholeCamera
from depth_node.intrinsics.estimate import Intrinsics
from depth_node.rectification import Rectification

INTRINSICS_SOURCES = ("auto", "camera_info", "learned", "prior")

# An estimate that differs by less from the one in use changes nothing: whoever caches rays need not make new ones.
_WORTH_A_CHANGE = 0.002
# After a pause of the images, the camera in use goes on by no more than it would have in this time.
_LONGEST_STEP_S = 1.0


@dataclass(frozen=True)
class SelectedCamera:
    """The camera of one image.

    source: `camera_info`, `learned` or `prior`.
    generation: counts the changes of the camera, from 1 on. since_ns: stamp of the first image with this one.
    """

    camera: PinholeCamera | Rectification
    source: str
    generation: int
    since_ns: int

    @property
    def pinhole(self) -> PinholeCamera:
        """The camera of the image that the network sees, which is rectified if so wanted."""
        return self.camera.target if isinstance(self.camera, Rectification) else self.camera


class CameraSelector:
    """Chooses the camera of every image of a stream.

    selected: the last choice.
    """

    def __init__(self, prior: Intrinsics) -> None:
        self.selected: SelectedCamera | None = None
        self._prior = prior
        self._target: Intrinsics | None = None
        self._current: Intrinsics | None = None
        self._stamp_ns = 0

    def select(
        self,
        wanted: str,
        calibrated: PinholeCamera | Rectification | None,
        learned: Intrinsics | None,
        size: tuple[int, int],
        stamp_ns: int,
        max_change: float,
    ) -> SelectedCamera:
        """The camera of an image of `size` (width, height).

        wanted: one of `INTRINSICS_SOURCES`; what is missing is replaced by the next of camera_info (but for `learned`),
            learned (but for `camera_info`), prior.
        calibrated, learned: as far as they are known for images of this size.
        max_change: per second of the stamps, of the learned intrinsics in use: of log f, and of the principal point
            as a share of the image. They begin at the camera that was in use before, if there was one.
        """
        if calibrated is not None and wanted in ("auto", "camera_info"):
            source, camera = "camera_info", calibrated
        elif learned is not None and wanted in ("auto", "learned"):
            source, camera = "learned", self._approached(learned, size, stamp_ns, max_change)
        else:
            source, camera = "prior", PinholeCamera.from_prior(self._prior, *size)
        if source != "learned":
            self._current = self._target = None
        self._stamp_ns = stamp_ns
        before = self.selected
        if before is None or before.camera != camera:
            self.selected = SelectedCamera(camera, source, before.generation + 1 if before else 1, stamp_ns)
        elif before.source != source:
            self.selected = SelectedCamera(camera, source, before.generation, before.since_ns)
        assert self.selected is not None
        return self.selected

    def _approached(
        self, learned: Intrinsics, size: tuple[int, int], stamp_ns: int, max_change: float
    ) -> PinholeCamera:
        """The camera in use, one step nearer to the learned intrinsics."""
        before = self.selected
        if before is None or (before.pinhole.width, before.pinhole.height) != size:
            self._current = self._target = learned
        elif self._current is None:
            self._current = before.pinhole.normalized()
        assert self._current is not None
        if self._target is None or difference(self._target, learned) > _WORTH_A_CHANGE:
            self._target = learned
        seconds = min(max(stamp_ns - self._stamp_ns, 0) * 1e-9, _LONGEST_STEP_S)
        self._current = approach(self._current, self._target, max_change * seconds)
        return PinholeCamera.from_normalized(self._current, *size)


def difference(a: Intrinsics, b: Intrinsics) -> float:
    """The largest change between two normalised intrinsics: of log f, or of the principal point in image sizes."""
    return max(abs(math.log(b[0] / a[0])), abs(math.log(b[1] / a[1])), abs(b[2] - a[2]), abs(b[3] - a[3]))


def approach(current: Intrinsics, target: Intrinsics, step: float) -> Intrinsics:
    """`current`, changed towards `target` by a `difference` of at most `step`; the target itself once it is as near."""
    distance = difference(current, target)
    if distance <= step:
        return target
    share = step / distance
    (fx, fy, cx, cy), (target_fx, target_fy, target_cx, target_cy) = current, target
    return (
        fx * (target_fx / fx) ** share,
        fy * (target_fy / fy) ** share,
        cx + (target_cx - cx) * share,
        cy + (target_cy - cy) * share,
    )
