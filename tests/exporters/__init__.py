"""Tests of the front end: modules, networks, weights and the export to ONNX."""
