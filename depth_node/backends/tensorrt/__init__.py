"""TensorRT on NVIDIA devices: engines built once, kept, and run from pinned memory on a stream of their own.

cuda_api.py is the one place that knows cuda-python, tensorrt_api.py the one that knows TensorRT and its versions;
engines.py builds engines and keeps them; session.py runs one.
"""
