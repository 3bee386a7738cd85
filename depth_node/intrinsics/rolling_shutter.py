"""Images whose rows are exposed one after the other, while the camera moves: as most sensors do.

A row y of an image of height H is exposed y / H of the readout later than the first one. To first order in the readout,
its points are seen where the camera is by then, and a window's motion says where that is (Forssen and Ringaby 2010,
"Rectifying rolling shutter video from hand-held devices", interpolate poses of rows likewise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from depth_node.intrinsics.projection import Float64, rotation_vector


@dataclass(frozen=True)
class Velocities:
    """Of a camera at M views [M, 6], and at their reference [6]: (omega, tau) per second, T <- exp(omega, tau) T."""

    views: Float64
    reference: Float64

    @classmethod
    def of(cls, rotations: Float64, translations: Float64, seconds: Float64) -> Velocities:
        """Of T_view_reference [M, 3, 3] and [M, 3] at seconds [M] before (negative) the reference, the latest first.

        Quadratic through neighbouring views.
        """
        rotations = np.concatenate([np.eye(3)[None], rotations])
        translations = np.concatenate([np.zeros((1, 3)), translations])
        steps = -np.diff(seconds, prepend=0.0)[:, None]
        turns = rotations[:-1] @ rotations[1:].transpose(0, 2, 1)  # from each to the next one in time
        ways = translations[:-1] - np.einsum("mij,mj->mi", turns, translations[1:])
        between = np.concatenate([rotation_vector(turns), ways], axis=1) / steps
        if len(between) == 1:
            return cls(between, between[0])
        later, earlier = steps[:-1], steps[1:]
        inner = (between[:-1] * earlier + between[1:] * later) / (earlier + later)
        first, last = 2 * between[0] - inner[0], 2 * between[-1] - inner[-1]
        return cls(np.concatenate([inner, last[None]]), first)


def by_readout(
    pose: Float64,
    rotations: Float64,
    translations: Float64,
    velocities: Velocities,
    late: Float64,
    late_in_reference: Float64,
) -> Float64:
    """Derivative [M, 2, N] of where points are seen by the readout, in pixels per second.

    pose: [M, 6, 2, N], derivatives by the poses. late: [M, N], and late_in_reference: [N], of the points' rows, in
    readouts after the image's time.
    """
    turn, way = (rotations @ part for part in velocities.reference.reshape(2, 3))
    (a, b, c), (x, y, z) = turn.T, translations.T
    across = np.stack([b * z - c * y, c * x - a * z, a * y - b * x], axis=1)  # turn x translation
    in_reference = np.concatenate([turn, way - across], axis=1)
    motion = velocities.views[:, :, None] * late[:, None] - in_reference[:, :, None] * late_in_reference
    derivative: Float64 = np.einsum("mijn,min->mjn", pose, motion)
    return derivative
