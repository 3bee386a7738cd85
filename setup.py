"""Packaging for colcon (ament_python) and pip; the version lives in package.xml alone."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
NAME = MANIFEST.findtext("name")
SHARE = Path("share") / NAME

ROS = ["ros-rclpy[fastrtps]", "ros-common-interfaces"]
CPU = ["openvino", "onnxruntime"]
TOOLS = ["rosbags", "rich", "pillow", "matplotlib"]
VIEW = ["rerun-sdk>=0.39", "psutil"]
BENCH = ["psutil", "matplotlib"]
TRAIN = [
    *(
        "torch",
        "torchvision",
        "timm",
        "lightning",
        "tensorboard",
        "jsonargparse[signatures]",
        "safetensors",
        "onnxruntime",
    ),
    *("h5py", "webdataset", "evo", *TOOLS),
    "albumentations==2.0.8",  # the last one under the MIT licence
    *("apsw", "lz4", "backports.zstd; python_version < '3.14'"),  # damaged bags
]
RAY = ["ray"]
TEST = ["pytest", "pytest-timeout", "hypothesis", "scipy", "ruff", "mypy", "types-PyYAML", *BENCH, *VIEW, *RAY]


def share_files() -> list[tuple[str, list[str]]]:
    """Share directory entries: every file below launch, config and models, where it stands in the tree."""
    entries = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(SHARE), ["package.xml", "LICENSE"]),
        # `ros2 run` looks here; entry points would put names like `replay` on everybody's PATH.
        (f"lib/{NAME}", sorted(str(p) for p in Path("depth_node/tools/scripts").iterdir() if p.is_file())),
    ]
    for top in (Path("launch"), Path("config"), Path("models")):
        for folder in [top, *(p for p in top.rglob("*") if p.is_dir())] if top.is_dir() else []:
            files = sorted(str(p) for p in folder.iterdir() if p.is_file())
            entries.append((str(SHARE / folder), files))
    return entries


setup(
    name=NAME,
    version=MANIFEST.findtext("version"),
    description=MANIFEST.findtext("description"),
    maintainer=MANIFEST.findtext("maintainer"),
    maintainer_email=MANIFEST.find("maintainer").attrib["email"],
    license=MANIFEST.findtext("license"),
    packages=find_packages(include=["depth_node", "depth_node.*", "training", "training.*"]),
    data_files=share_files(),
    python_requires=">=3.10",
    install_requires=["setuptools", "numpy", "opencv-python-headless", "pyyaml", "onnx"],
    extras_require={
        "ros": ROS,
        "cpu": CPU,
        "tools": TOOLS,
        "view": VIEW,
        "bench": BENCH,
        "tensorrt": ["tensorrt", "cuda-python"],
        "train": TRAIN,
        "ray": RAY,
        "test": TEST,
    },
    zip_safe=False,
)
