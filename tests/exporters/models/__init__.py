"""Tests of the networks of the literature: definitions, counts and exports."""
