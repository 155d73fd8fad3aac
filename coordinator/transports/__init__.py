"""The ways onto a host. A transport starts one process there; all else is the same for each."""
