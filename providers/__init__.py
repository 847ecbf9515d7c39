"""Provider servers in Python for machines where the official provider plugins cannot be had."""
