"""Tests of the images and of the configuration files, by the real programs."""
