"""How long one depth inference takes as a TensorRT engine in each precision, beside other backends and PyTorch.

Engines run with and without CUDA graph. Batch 1, from uint8 in the host's memory to float32 in the host's memory,
copies included; candidates take turns. One command makes the table of docs/jetson.md; where TensorRT is missing it
says why and times what there is.

int8 is in the table once the model was calibrated: --calibration BAG_OR_FOLDER, or `build_engine` before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A script's folder comes first among the places of modules, and training.py in it would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import report, speed_up, time_in_turns
from numpy.typing import NDArray

from depth_node.backends import create_backend
from depth_node.backends.tensorrt.options import ENGINE_PRECISIONS, EngineOptions
from depth_node.errors import BackendError
from depth_node.model import ModelFile, read_model
from depth_node.precision.frames import ModelFrames, read_frames, synthetic_frames
from depth_node.precision.int8 import calibrate_int8, load_int8, save_int8
from depth_node.precision.parity import deviations
from depth_node.precision.recipe import MeasuredRecipe
from depth_node.resources import find_model
from depth_node.tools.build_engine import write_graph

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

PUBLISHED = (
    "published, measured by others and not by this script:",
    "  RT-MonoDepth-S, 640x192, Jetson AGX Orin: 364.1 FPS (Feng et al., arXiv 2308.10569)",
    "  Depth Anything 3 Small, 308x308, fp16, Jetson Orin NX 16GB: 92.6 FPS (trtexec, TensorRT 10.3;",
    "  docs/JETSON_BENCHMARKS.md of GerdsenAI-Depth-Anything-3-ROS2-Wrapper)",
)


UNKNOWN = {"deviation_median": None, "deviation_p95": None}


@dataclass(frozen=True)
class Candidate:
    """Something that infers. memory_mib: of the device; None where the device has no memory of its own."""

    infer: Infer
    device: str
    memory_mib: float | None = None
    has_model_weights: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    arguments = _parser().parse_args(argv)
    model = read_model(find_model(arguments.model))
    if arguments.calibration is None:
        frames = synthetic_frames(model)
    else:
        frames = read_frames(model, arguments.calibration, arguments.frames, _say)
        save_int8(model, calibrate_int8(model, frames, _say))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        candidates: dict[str, Candidate] = {}
        try:
            candidates.update(tensorrt_candidates(model, frames, arguments.precisions, stack))
        except (ImportError, BackendError) as error:
            print(f"no TensorRT rows: {error}")
        for source in (cpu_candidates(model, folder), cuda_candidates(model), torch_candidates(model, arguments.torch)):
            candidates.update(source)
        rows = measure(model, candidates, frames, arguments.rounds, arguments.runs)
    size = f"{model.spec.input_width}x{model.spec.input_height}"
    context = {"model": model.path.name, "size": size, "rounds": arguments.rounds, "runs": arguments.runs}
    report("engines", rows, frames=frames.source, published=PUBLISHED, **context)
    print("\n".join(PUBLISHED))
    return 0


def measure(
    model: ModelFile, candidates: dict[str, Candidate], frames: ModelFrames, rounds: int, runs: int
) -> list[dict[str, Any]]:
    """One row a candidate. Deviations are of depth from ONNX Runtime in fp32 (or the first candidate)."""
    images = [inputs[model.inputs[0]] for inputs in frames.first(8).inputs]
    reference = candidates.get("onnxruntime fp32", next(iter(candidates.values())))
    expected = [reference.infer(image) for image in images]
    seconds = time_in_turns(
        {name: lambda infer=candidate.infer: infer(images[0]) for name, candidate in candidates.items()}, rounds, runs
    )
    slowest = max(seconds, key=lambda name: float(np.median(seconds[name])))
    baseline = "torch eager fp32" if "torch eager fp32" in seconds else slowest
    rows = []
    for name, candidate in candidates.items():
        p50, p99 = np.percentile(seconds[name], [50, 99]) * 1e3
        rows.append(
            {
                "candidate": name,
                "p50_ms": float(p50),
                "p99_ms": float(p99),
                "fps": float(1e3 / p50),
                "speed_up": speed_up(seconds[baseline], seconds[name]),
                "memory_mib": candidate.memory_mib,
                **(deviation(model, candidate.infer, images, expected) if candidate.has_model_weights else UNKNOWN),
                "device": candidate.device,
            }
        )
    print(f"speed_up is over {baseline}")
    return rows


def deviation(
    model: ModelFile, infer: Infer, images: Sequence[NDArray[np.uint8]], expected: Sequence[NDArray[np.float32]]
) -> dict[str, float | None]:
    """Median and 95th percentile of the relative deviation of depth."""
    name = model.outputs[0]
    pairs = [({name: infer(image)}, {name: output}) for image, output in zip(images, expected, strict=True)]
    median, p95 = np.percentile(np.concatenate([deviations(model, *pair) for pair in pairs]), [50, 95])
    return {"deviation_median": float(median), "deviation_p95": float(p95)}


def tensorrt_candidates(
    model: ModelFile, frames: ModelFrames, precisions: Sequence[str], stack: ExitStack
) -> dict[str, Candidate]:
    """Every precision, with and without CUDA graph; engines come from the cache where they are there."""
    from depth_node.backends.tensorrt import cuda_api, tensorrt_api
    from depth_node.backends.tensorrt.engines import build_engine
    from depth_node.backends.tensorrt.session import EngineRunner

    device = f"{cuda_api.device().name}, TensorRT {tensorrt_api.VERSION}"
    candidates = {}
    for precision in precisions:
        if precision == "int8" and load_int8(model) is None:
            print("no TensorRT int8 row: the model has not been calibrated, see --calibration")
            continue
        try:
            engine = build_engine(model, EngineOptions(precision), MeasuredRecipe(frames), _say)
        except BackendError as error:
            print(f"no TensorRT {precision} row: {error}")
            continue
        for cuda_graph in (False, True):
            runner = EngineRunner(engine.engine, cuda_graph)
            stack.callback(runner.close)
            memory = (len(engine.engine) + runner.device_bytes) / 2**20
            name = f"tensorrt {precision}{', CUDA graph' if cuda_graph else ''}"
            candidates[name] = Candidate(_named(model, runner.run), device, memory)
    return candidates


def cpu_candidates(model: ModelFile, folder: Path) -> Iterator[tuple[str, Candidate]]:
    """The backends of this machine's CPU; the int8 graph too, where there is one."""
    for name in ("onnxruntime", "openvino"):
        for precision in ("fp32", "auto"):
            with suppress(BackendError):  # not installed
                backend = create_backend(model, name, precision)
                yield f"{name} {backend.precision}", _of_backend(backend)
    if load_int8(model) is None:
        return
    path = folder / f"{model.path.stem}-int8.onnx"
    write_graph(model, "int8", path, _say)
    for name in ("onnxruntime", "openvino"):
        with suppress(BackendError):
            yield f"{name} int8 graph", _of_backend(create_backend(read_model(path), name))


def cuda_candidates(model: ModelFile) -> Iterator[tuple[str, Candidate]]:
    """ONNX Runtime on the GPU, where it was installed with it."""
    try:
        import onnxruntime as ort
    except ImportError:
        return
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return
    session = ort.InferenceSession(str(model.path), providers=["CUDAExecutionProvider"])
    if session.get_providers()[0] != "CUDAExecutionProvider":
        return
    output, image_name = model.outputs[0], model.inputs[0]
    yield "onnxruntime CUDA", Candidate(lambda image: session.run([output], {image_name: image})[0], "CUDA")


def torch_candidates(model: ModelFile, encoder: str) -> Iterator[tuple[str, Candidate]]:
    """A network of that size with random weights, in PyTorch: eager in float32, and compiled in float16 on a GPU."""
    if not encoder:
        return
    try:
        import torch

        from training.export import ExportedDepth
        from training.networks.depth import DepthNetwork
    except ImportError as error:
        print(f"no PyTorch rows: {error}")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = ExportedDepth(DepthNetwork(encoder, pretrained=False, scales=1), 0.1, 100.0).eval().to(device)
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"

    def inference(run: Callable[[torch.Tensor], torch.Tensor]) -> Infer:
        def infer(image: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.inference_mode():
                output: NDArray[np.float32] = run(torch.from_numpy(image).to(device)).float().cpu().numpy()
            return output

        return infer

    yield "torch eager fp32", Candidate(inference(network), where, has_model_weights=False)
    if device == "cuda":
        compiled = torch.compile(network.to(memory_format=torch.channels_last), mode="max-autotune")

        def half(image: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", torch.float16):
                return compiled(image)  # type: ignore[no-any-return]

        yield "torch.compile fp16", Candidate(inference(half), where, has_model_weights=False)


def _of_backend(backend: Any) -> Candidate:
    return Candidate(lambda image: backend.infer(image).output, backend.device)


def _named(model: ModelFile, run: Callable[[dict[str, Any]], dict[str, Any]]) -> Infer:
    return lambda image: run({model.inputs[0]: image})[model.outputs[0]]


def _say(what: str, share: float) -> None:
    """Progress as one line that is written over."""
    done = "" if np.isnan(share) else f" {share:.0%}"
    print(f"\r\033[K{what}{done}", end="" if share < 1 or np.isnan(share) else "\r\033[K", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="depth-base", help="model file, or the name of a shipped one (%(default)s)")
    parser.add_argument("--calibration", type=Path, metavar="PATH", help="bag or folder of pictures: calibrates int8")
    parser.add_argument("--frames", type=int, default=64, help="frames to take of it (%(default)s)")
    parser.add_argument("--precisions", nargs="+", choices=ENGINE_PRECISIONS, default=list(ENGINE_PRECISIONS))
    parser.add_argument(
        "--torch",
        metavar="ENCODER",
        default="resnet18",
        help="encoder of the PyTorch network to compare with, that of depth-base (%(default)s); '' for none",
    )
    parser.add_argument("--rounds", type=int, default=10, help="turns of every candidate")
    parser.add_argument("--runs", type=int, default=20, help="inferences per turn")
    return parser


if __name__ == "__main__":
    sys.exit(main())
