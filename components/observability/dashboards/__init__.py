"""The dashboards: one file each, of typed panels."""
