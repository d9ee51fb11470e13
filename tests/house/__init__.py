"""Tests of the house rules: who imports whom, packaging, types and style."""
