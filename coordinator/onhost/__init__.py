"""What runs on a host before the agent does: a shell, where no Python will do, and the runtime."""
