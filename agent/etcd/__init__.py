"""etcd's v3 API as a client: its JSON gateway, gRPC where that is off, and the peer port."""
