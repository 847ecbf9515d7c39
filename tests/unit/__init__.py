"""Tests of the graph, without Docker."""
