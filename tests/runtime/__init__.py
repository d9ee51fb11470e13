"""Tests of the C++ runtime: its examples, beside the C++ tests of this folder."""
