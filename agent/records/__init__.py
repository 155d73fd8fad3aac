"""What a host keeps about a plan: the journal, room for it, the lock, and whose plan may run."""
