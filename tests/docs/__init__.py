"""Tests of the docs: the site builds, and what the pages tell to type works."""
