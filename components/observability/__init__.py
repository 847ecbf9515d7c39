"""Measurements and alerts."""
