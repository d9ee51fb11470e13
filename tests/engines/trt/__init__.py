"""The engine `tensorrt`, driven over a stand-in for NVIDIA's bindings."""
