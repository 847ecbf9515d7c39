"""What people do with the platform: the commands of ``./aikit``."""
