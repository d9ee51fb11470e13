"""Tests of the benchmarks' own code; figures are not tested."""
