"""Secrets: where they are kept, and who may read which."""
