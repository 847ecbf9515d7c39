"""Tests of what sets the machine up."""
