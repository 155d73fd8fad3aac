"""Survey: read-only facts of one host."""
