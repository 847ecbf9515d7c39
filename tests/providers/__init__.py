"""Tests of the provider servers, against real servers."""
