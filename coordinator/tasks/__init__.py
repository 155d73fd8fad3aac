"""What the tasks of the fabfile do: look, diagnose, plan, confirm, apply, verify, report."""
