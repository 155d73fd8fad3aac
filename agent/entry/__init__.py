"""The ways into the agent: a console's verbs, and a coordinator's requests."""
