"""`python -m training report` on checkpoints, a model file and a made training."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from training.checkpoints import TrainedDepth
from training.cli import main
from training.errors import DataError
from training.report.runs import find_runs


@pytest.fixture
def kitti_2015(tmp_path: Path) -> Path:
    """Three white frames with a truth of 2.5 m on the lower half."""
    root = tmp_path / "kitti_2015"
    for folder in ("image_2", "image_3", "disp_occ_0"):
        (root / folder).mkdir(parents=True)
    for index in range(3):
        for folder in ("image_2", "image_3"):
            cv2.imwrite(str(root / folder / f"{index:06d}_10.png"), np.full((75, 248, 3), 255, np.uint8))
        disparity = np.zeros((75, 248), np.uint16)
        disparity[40:] = round(256 * 721.5377 * 248 / 1242 * 0.5327 / 2.5)
        cv2.imwrite(str(root / "disp_occ_0" / f"{index:06d}_10.png"), disparity)
    return root


@pytest.fixture
def training(tmp_path: Path, tiny_depth: TrainedDepth, write_checkpoint: Callable[..., Path]) -> Path:
    """A training's folder: two checkpoints and a log of half an hour."""
    folder = tmp_path / "runs" / "tiny" / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    write_checkpoint(folder / "checkpoints" / "best.ckpt", tiny_depth)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"not read where there is a best one")
    with SummaryWriter(str(folder)) as writer:
        for step, value in ((0, 0.5), (3, 0.125), (6, 0.25)):
            writer.add_scalar("val/abs_rel", value, step, walltime=1000 + 300 * step)
    return folder


class Sources(HTMLParser):
    """Every src and href of a page, and its open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.values += [value or "" for name, value in attrs if name in ("src", "href")]


def test_page(kitti_2015: Path, training: Path, tiny_model_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = [str(training), str(tiny_model_path), "--root", str(kitti_2015), "--output", str(output)]
    arguments += ["--scaling", "none", "--repetitions", "1", "--pictures", "2", "--title", "Tiny & <small>"]
    assert main(["report", *arguments]) == 0

    markdown = (output / "report.md").read_text()
    networks = next(line for line in markdown.splitlines() if line.startswith("| tiny/version_0 | mobilenet"))
    assert "| 96x64 |" in networks
    assert networks.endswith("| 7 | 0.50 |")  # steps, and 1800 s
    # The model file says 2 m for white and this focal length times (721.5377 / 1242) / 0.58.
    expected = abs(2 * 721.5377 / 1242 / 0.58 - 2.5) / 2.5
    depth = next(line for line in markdown.splitlines() if line.startswith("| tiny.onnx | 3 |"))
    assert float(depth.split("|")[3].strip(" *")) == pytest.approx(expected, abs=2e-3)
    assert "| tiny/version_0 | 0.2500 | 0.1250 |" in markdown
    assert "(curves.svg)" in markdown
    assert "(sheet.jpg)" in markdown

    html = (output / "report.html").read_text()
    assert "<h1>Tiny &amp; &lt;small&gt;</h1>" in html
    sources = Sources()
    sources.feed(html)
    assert len(sources.values) == 2
    assert all(source.startswith("data:image/") for source in sources.values)  # one file that needs no other
    sheet = base64.b64decode(re.search(r"image/jpeg;base64,([^\"]+)", html).group(1))  # type: ignore[union-attr]
    picture = cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    rows_of_frames = 2 * 2  # two frames by two networks
    assert picture.shape[0] > rows_of_frames * 100
    for folder in ("tiny_version_0", "tiny.onnx"):
        assert (output / "evaluations" / folder / "frames.csv").is_file()


def test_without_data_and_without_a_log(tmp_path: Path, training: Path) -> None:
    checkpoint = tmp_path / "alone.ckpt"
    shutil.copy(training / "checkpoints" / "best.ckpt", checkpoint)
    output = tmp_path / "out"
    assert main(["report", str(checkpoint), "--output", str(output), "--repetitions", "0"]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "report.md"]
    markdown = (output / "report.md").read_text()
    assert "| alone.ckpt | mobilenetv3_small_050, unet |" in markdown
    assert "/ ms" not in markdown


def test_what_a_run_is(tmp_path: Path, training: Path) -> None:
    (run,) = find_runs([training])
    assert (run.name, run.file.name, run.log) == ("tiny/version_0", "best.ckpt", training)
    (training / "checkpoints" / "best.ckpt").unlink()
    assert find_runs([training])[0].file.name == "last.ckpt"
    same = [tmp_path / folder / "last.ckpt" for folder in ("a", "b")]
    for path in same:
        path.parent.mkdir()
        path.touch()
    assert [run.name for run in find_runs(same)] == [str(path) for path in same]
    with pytest.raises(DataError, match="is no run: expected runs/NAME/version_N"):
        find_runs([tmp_path])
