"""Every recipe: two training steps, a checkpoint, a model file, and what the CPU backend makes of it.

Networks are as the recipe has them, but without pretrained weights; images are as small as they may be.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from depth_node.backends import create_backend
from training import cli
from training.checkpoints import load_depth_network
from training.data.image_files import read_rgb
from training.data.synthetic import DriveOptions, write_street_drive
from training.export import export_depth
from training.networks.depth import sigmoid_to_inverse_depth

FOLDER = Path(__file__).parents[2] / "config" / "training"
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
RECIPES = {name: recipe for name, recipe in RECIPES.items() if "model" in recipe}
DEPTH_RECIPES = [name for name, recipe in RECIPES.items() if recipe["model"]["class_path"] != "SupervisedMotion"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street with a car coming the other way, whose instance masks are known: two targets with neighbours."""
    root = tmp_path_factory.mktemp("drives")
    write_street_drive(root / "street_0", 0, DriveOptions(width=96, height=64, frames=4, step=1.0, oncoming=1))
    return root


def test_each_recipe_is_named_as_its_file_and_starts_from_pretrained_weights() -> None:
    assert {name: recipe["name"] for name, recipe in RECIPES.items()} == {name: name for name in RECIPES}
    fresh = [name for name, recipe in RECIPES.items() if not recipe["model"]["init_args"]["pretrained"]]
    assert fresh == ["motion", "shared_finetune"]  # from random weights; from those of a first stage


def test_the_guide_lists_what_there_is() -> None:
    table = (
        (FOLDER.parents[1] / "docs" / "methods.md").read_text().split("## Recipes")[1].split("Where nothing else")[0]
    )
    listed = [
        name for row in table.splitlines() if row.startswith("| `") for name in re.findall("`(.+?)`", row.split("|")[1])
    ]
    assert sorted(listed) == sorted(RECIPES)


def test_each_recipe_says_its_command() -> None:
    for name in RECIPES:
        header = (FOLDER / f"{name}.yaml").read_text().partition(f"name: {name}")[0]
        assert all(line.startswith("#") for line in header.splitlines())
        assert f"python -m training train --config config/training/{name}.yaml --data.root" in header


@pytest.mark.parametrize("name", DEPTH_RECIPES)
def test_trains_exports_and_runs(name: str, drives: Path, tmp_path: Path) -> None:
    side = 70 if "vit" in RECIPES[name]["model"]["init_args"]["network"]["encoder"] else 64
    options = {
        "runs": tmp_path / "runs",
        "data.root": drives,
        "data.train": "[{kind: synthetic}]",
        "data.validation": "[]",
        "data.width": side,
        "data.height": side,
        "data.batch_size": 2,
        "data.workers": 0,
        "model.init_args.pretrained": "false",
        "trainer.max_steps": 2,
        "trainer.accelerator": "cpu",
        "trainer.precision": "32-true",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    assert cli.main(["train", "--config", str(FOLDER / f"{name}.yaml"), *arguments]) == 0
    (checkpoint,) = (tmp_path / "runs").rglob("*.ckpt")
    trained = load_depth_network(checkpoint)
    shutil.rmtree(tmp_path / "runs")  # hundreds of megabytes each
    model = export_depth(trained, tmp_path / "model.onnx", "", "", name, half_weights=False)

    assert trained.steps == 2
    image = cv2.resize(read_rgb(drives / "street_0" / "image" / "0000000000.jpg"), (side, side))
    with torch.no_grad():
        rgb = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        sigmoid = trained.network.disparity(rgb)[0, 0]
    expected = sigmoid_to_inverse_depth(sigmoid, trained.card.min_depth, trained.card.max_depth).numpy()
    assert np.ptp(expected) > 0.01 * expected.mean()  # a flat map would agree with one of another image
    got = create_backend(model, "onnxruntime", "fp32", threads=1).infer(image[None]).output[0]
    assert got.shape == (side, side)
    np.testing.assert_allclose(got, expected, rtol=1e-3)
    model.path.unlink()
