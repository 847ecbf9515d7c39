"""Tests of the commands, on small programs with the real engine."""
