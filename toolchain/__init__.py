"""Pinned tools and images built from package registries, for machines that reach no image registry and no release downloads."""
