"""The way in: certificates and the reverse proxy."""
