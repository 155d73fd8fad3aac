"""The coordinator: runs on the operator's machine and sequences the hosts."""
