"""Snapshots of etcd: verified, taken, kept as sets."""
