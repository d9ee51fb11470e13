"""Tests of the graph in hand."""
