"""NVIDIA's side of a machine and of an artifact, read without TensorRT, CUDA or a GPU."""
