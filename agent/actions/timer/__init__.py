"""The units of ours on a host: written, recognised, removed; and the agent that they run."""
