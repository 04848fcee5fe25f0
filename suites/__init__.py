"""The suites: short files to run as they are, or to copy and change."""
