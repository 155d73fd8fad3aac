"""OpenShift 4 in the lab: hosts in its layout, its API, its etcd operator."""
