"""Tests of the repository itself: its style, its files, its documents."""
