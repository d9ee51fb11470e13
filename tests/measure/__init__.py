"""Tests of the timing."""
