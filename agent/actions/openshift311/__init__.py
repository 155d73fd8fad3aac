"""What only OpenShift 3.11 needs: etcd.conf's last resort, flannel, masters, load balancer."""
