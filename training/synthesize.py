"""`python -m training synthesize`: synthetic streets with exact depth, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from rich.progress import track

from training.command_line import run_function
from training.data.synthetic import INDEX_FILE, DriveOptions, write_street_drive


def synthesize(
    output: Path, drives: int = 40, first_seed: int = 1000, options: DriveOptions = DriveOptions(), workers: int = 2
) -> int:
    """Render synthetic drives. Drives that are there already are kept, so a stopped run goes on where it stopped.

    Train on them with a source `{kind: synthetic, path: OUTPUT}` in a recipe.

    Args:
        output: folder to write to, one folder a drive.
        drives: number of drives, each in a street of its own.
        first_seed: seed of the first street; the demo drives through seed 0.
        options: camera and length of a drive.
        workers: processes.
    """
    folders = {output / f"street_{seed:05d}": seed for seed in range(first_seed, first_seed + drives)}
    missing = {folder: seed for folder, seed in folders.items() if not (folder / INDEX_FILE).is_file()}
    with ProcessPoolExecutor(workers) as pool:
        rendered = pool.map(partial(write_street_drive, options=options), missing, missing.values())
        for _ in track(rendered, description="drives", total=len(missing)):
            pass
    print(f"{output}: {len(folders)} drives, {len(missing)} of them new")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Command-line entry."""
    return run_function(synthesize, arguments)
