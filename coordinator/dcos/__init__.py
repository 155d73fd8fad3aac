"""DC/OS Kubernetes, whose etcd runs as tasks: through the `dcos` command, without any host."""
