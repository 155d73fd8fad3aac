"""Plain data that travels between agent and coordinator: facts, verdicts, plans."""
