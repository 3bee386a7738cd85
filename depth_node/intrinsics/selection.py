"""Which camera points are computed with: the calibrated, the learned, or the model's prior; and its changes, slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
        self._target: PinholeCamera | None = None
        self._current: PinholeCamera | None = None
        self._stamp_ns = 0

    def select(
        self,
        wanted: str,
        calibrated: PinholeCamera | Rectification | None,
        learned: PinholeCamera | None,
        size: tuple[int, int],
        stamp_ns: int,
        max_change: float,
    ) -> SelectedCamera:
        """The camera of an image of `size` (width, height).

        wanted: one of `INTRINSICS_SOURCES`; what is missing is replaced by the next of camera_info (but for `learned`),
            learned (but for `camera_info`), prior.
        calibrated, learned: as far as they are known for images of this size.
        max_change: per second of the stamps, of the learned camera in use: its `difference`. It begins at the camera
            that was in use before, if there was one.
        """
        if calibrated is not None and wanted in ("auto", "camera_info"):
            source, camera = "camera_info", calibrated
        elif learned is not None and wanted in ("auto", "learned"):
            source, camera = "learned", self._approached(learned, stamp_ns, max_change)
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

    def _approached(self, learned: PinholeCamera, stamp_ns: int, max_change: float) -> PinholeCamera:
        """The camera in use, one step nearer to the learned one."""
        before = self.selected
        if before is None or (before.pinhole.width, before.pinhole.height) != (learned.width, learned.height):
            self._current = self._target = learned
        elif self._current is None:
            self._current = _with_distortion(before.pinhole, before.pinhole.radial_distortion or 0.0)
        assert self._current is not None
        if self._target is None or difference(self._target, learned) > _WORTH_A_CHANGE:
            self._target = learned
        seconds = min(max(stamp_ns - self._stamp_ns, 0) * 1e-9, _LONGEST_STEP_S)
        self._current = approach(self._current, self._target, max_change * seconds)
        return self._current


def difference(a: PinholeCamera, b: PinholeCamera) -> float:
    """The largest change between two cameras of one size, at most with radial distortion.

    Of log fx or log fy, of the principal point in image sizes, or of k1.
    """
    return max(
        abs(math.log(b.fx / a.fx)),
        abs(math.log(b.fy / a.fy)),
        abs(b.cx - a.cx) / a.width,
        abs(b.cy - a.cy) / a.height,
        abs((b.radial_distortion or 0.0) - (a.radial_distortion or 0.0)),
    )


def approach(current: PinholeCamera, target: PinholeCamera, step: float) -> PinholeCamera:
    """`current`, changed towards `target` by a `difference` of at most `step`; the target itself once it is as near."""
    distance = difference(current, target)
    if distance <= step:
        return target
    share = step / distance
    k1, target_k1 = current.radial_distortion or 0.0, target.radial_distortion or 0.0
    nearer = replace(
        current,
        fx=current.fx * (target.fx / current.fx) ** share,
        fy=current.fy * (target.fy / current.fy) ** share,
        cx=current.cx + (target.cx - current.cx) * share,
        cy=current.cy + (target.cy - current.cy) * share,
    )
    return _with_distortion(nearer, k1 + (target_k1 - k1) * share)


def _with_distortion(camera: PinholeCamera, k1: float) -> PinholeCamera:
    """With radial distortion alone."""
    distortion = (k1, 0.0, 0.0, 0.0, 0.0) if k1 else ()
    return replace(camera, distortion_model="plumb_bob", distortion=distortion)
