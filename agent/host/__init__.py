"""The only door to files and processes, under a root prefix."""

from agent.host.door import STATE_DIR, Completed, Host

__all__ = ["STATE_DIR", "Completed", "Host"]
