"""Tests against Triton itself: its schema, and a server where one is installed."""
