"""The focal length over time with its 95 % band, and the rotation that it was learned from, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from depth_node.errors import DepthNodeError
from depth_node.tools.calibrate.estimation import Calibration

BAND_SIGMAS = 1.96  # 95 %


def draw_calibration(calibration: Calibration, path: Path) -> None:
    """Write the picture, of the type that the path's suffix names.

    Raises:
        DepthNodeError: it cannot be written.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    seconds, f = calibration.seconds, calibration.focal_length
    # The band is of log f, as the estimate is.
    spread = np.exp(BAND_SIGMAS * calibration.sigma / f)
    above.fill_between(seconds, f / spread, f * spread, color="tab:blue", alpha=0.2, linewidth=0, label="95 %")
    above.plot(seconds, f, color="tab:blue", label="focal length")
    above.set(
        ylabel="pixels", title=f"{calibration.estimate.state}: {f[-1]:.1f} pixels, sigma {calibration.sigma[-1]:.1f}"
    )
    end = slice(len(f) // 2, None)  # the beginning is much wider than what is to be seen
    above.set_ylim(0.9 * (f / spread)[end].min(), 1.1 * (f * spread)[end].max())
    above.legend(loc="upper right")
    turned = np.degrees(np.diff(calibration.rotation, prepend=0.0))
    below.vlines(seconds, 0.0, turned, color="tab:orange")
    below.set(xlabel="seconds", ylabel="rotation of\npairs (degrees)")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise DepthNodeError(f"picture {path} cannot be written: {error.strerror}") from error
