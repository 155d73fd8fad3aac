"""etcd's v3 API as a client: the JSON gateway, the peer port, and the node's own etcdctl."""
