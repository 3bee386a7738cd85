"""Data sets that have a reader (KITTI, TUM, synthetic drives, folders of frames) as streams of decoded frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from depth_node.camera import PinholeCamera
from depth_node.errors import DepthNodeError
from training.data.image_files import read_rgb
from training.data.records import FrameRecord
from training.prepare.frames import RawFrame, RawStereo, UnreadableFrame


@dataclass(frozen=True)
class RecordStream:
    """Frames of records in their order.

    Args:
        name: of the sequence.
        source: folder of the data set.
        records: the frames.
        lens: camera with lens distortion that the records cannot tell; at any size of the same images.
        stereo: frames bring their stereo partners.
        unrelated: no frame is another's neighbour: each has a stamp that splits the sequence.
    """

    name: str
    source: str
    records: Sequence[FrameRecord]
    lens: PinholeCamera | None = None
    stereo: bool = False
    unrelated: bool = False

    @property
    def expected_frames(self) -> int:
        """All are known."""
        return len(self.records)

    def frames(self, first: int) -> Iterator[RawFrame | UnreadableFrame]:
        """Decoded frames from position `first` on; one whose image or depth is damaged is unreadable as a whole."""
        for record in self.records[first:]:
            try:
                yield self._read(record)
            except (DepthNodeError, OSError, ValueError) as error:
                yield UnreadableFrame(record.name, str(error))

    def _read(self, record: FrameRecord) -> RawFrame:
        rgb = read_rgb(record.image)
        return RawFrame(
            rgb=rgb,
            stamp_ns=0 if self.unrelated else record.stamp_ns,
            camera=self._camera(record, rgb.shape[1], rgb.shape[0]),
            depth=None if record.depth is None else record.depth.read(),
            pose=record.pose,
            speed=None if record.speed is None else record.speed.read(),
            stereo=self._partner(record),
            name=record.name,
            is_target=record.is_target,
        )

    def _partner(self, record: FrameRecord) -> RawStereo | None:
        if record.stereo is None or not self.stereo:
            return None
        return RawStereo(read_rgb(record.stereo.image), record.stereo.T_other_this)

    def _camera(self, record: FrameRecord, width: int, height: int) -> PinholeCamera | None:
        if self.lens is not None:
            return self.lens.resized(width, height)
        return None if record.intrinsics is None else PinholeCamera.from_normalized(record.intrinsics, width, height)
