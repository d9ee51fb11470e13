"""Tests of NVIDIA's side: real plans of TensorRT-RTX, real ELF files of the system's compiler."""
