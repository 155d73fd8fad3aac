"""An imitation of DC/OS Kubernetes: a strict `dcos` command over real etcd processes."""
