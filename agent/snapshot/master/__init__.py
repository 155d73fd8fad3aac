"""The backup of a master: its files as they are, its packages, its etcd; verified and carried."""
