"""Inventories that others keep: Ansible's (ini, yaml) and the API server's; only read."""
