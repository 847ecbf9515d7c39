"""All tests, from the quick ones to those of the running platform."""
