"""Precision comes from the graph: a model's ONNX graph in float32, float16 or int8, and what that costs in accuracy.

graph.py, half.py, quantization.py and batch.py rewrite graphs; execution.py runs them on the CPU; frames.py,
calibration.py and selection.py decide by measurement what is int8 (int8.py keeps it); parity.py compares; recipe.py is
what engines are built with. Nothing here imports TensorRT or torch.
"""
