"""Tests of the real platform: real engine, containers and browser."""
