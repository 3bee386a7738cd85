"""`synthesize` and `proxy_depth`, from the command line: data that other commands then read."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import cli
from training.data.source import Source


def test_synthesized_drives_are_kept_and_completed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "streets"
    options = ["--output", str(output), "--first_seed", "5", "--workers", "1"]
    options += ["--options", "{width: 32, height: 16, frames: 2}"]
    assert cli.main(["synthesize", *options, "--drives", "1"]) == 0
    assert "1 drives, 1 of them new" in capsys.readouterr().out
    first = (output / "street_00005" / "frames.csv").stat().st_mtime_ns
    assert cli.main(["synthesize", *options, "--drives", "2"]) == 0
    assert "2 drives, 1 of them new" in capsys.readouterr().out
    assert (output / "street_00005" / "frames.csv").stat().st_mtime_ns == first
    frames = Source("synthetic").read(output)
    assert [(r.sequence, r.index) for r in frames] == [(f"street_0000{s}", i) for s in (5, 6) for i in (0, 1)]


def test_proxy_depth_of_sources_is_read_by_a_recipe(
    streets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proxies = tmp_path / "proxy"
    config = tmp_path / "proxy.yaml"
    config.write_text("sources: [{kind: synthetic, select: [street_1]}]\noptions: {relative_error: 0.3}\n")
    arguments = ["proxy_depth", "--config", str(config), "--root", str(streets), "--output", str(proxies)]
    for new in (2, 0):
        assert cli.main([*arguments, "--offsets", "[-1, 1]", "--workers", "1"]) == 0
        assert f"synthetic street_1: 2 of 4 frames have proxy depth, {new} new" in capsys.readouterr().out
    source = Source("synthetic", select=["street_1"], proxy=proxies, prefer_proxy=True)
    depths = [record.depth.read() for record in source.read(streets) if record.depth is not None]
    assert [depth.shape for depth in depths] == [(64, 96)] * 4
    # Triangulated depth ends at 80 m; only rendered depth has the sky.
    assert [depth.max() <= 80 for depth in depths] == [False, True, True, False]


def test_an_option_of_another_kind_of_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = "[{kind: kitti_2015, split_file: list.txt}]"
    assert cli.main(["proxy_depth", "--root", ".", "--output", str(tmp_path), "--sources", sources]) == 2
    assert "a source of kind kitti_2015 has no split_file; it has select, cameras" in capsys.readouterr().err
