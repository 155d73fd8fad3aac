"""The lab: whole control-plane hosts on one machine, for tests and demonstrations."""
