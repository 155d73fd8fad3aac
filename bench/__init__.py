"""What etcd-rescue is measured by, against what an expert would type: `make bench`."""
