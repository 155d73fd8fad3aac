"""Files of OpenShift 3.11, as the fuzzing begins with them."""

ETCD_CONF = b"ETCD_NAME=m0\nexport ETCD_X='a b' # c\nETCD_INITIAL_CLUSTER=\"m0=https://h:2380\"\n"
HAPROXY = b"""\
frontend f
    bind *:8443,:9443
    default_backend b
backend b
    server m0 192.0.2.1:8443 check # one
    server m1 "192.0.2.2":8443 check
listen l :1
    server m0 [2001:db8::1]:8443
    server m1 192.0.2.2:8443
"""
FLANNEL = b'# x\nFLANNEL_ETCD_ENDPOINTS="https://m0:2379,https://m1:2379"\nFLANNEL_OPTIONS=-v\n'
MANIFEST = (
    b'{"format": 1, "name": "n", "host": "h", "machine_id": "m", "time": 1.0, "created": "c",'
    b' "tool": "t", "platform": "openshift311", "files": [{"path": "etc/x", "kind": "file",'
    b' "size": 1, "sha256": "' + b"a" * 64 + b'", "xattrs": {"user.a": "YQ=="}}]}'
)
DOCKER = (
    b'[{"Id": "a", "Created": "2026-01-02T03:04:05.1Z", "State": {"Status": "exited", "ExitCode":'
    b' 2}, "Config": {"Labels": {"io.kubernetes.docker.type": "container",'
    b' "io.kubernetes.container.name": "etcd"}}}]'
)
OPENSHIFT311_FILES = {
    "etcd.conf": [ETCD_CONF], "haproxy.cfg": [HAPROXY], "flanneld": [FLANNEL],
    "master-manifest": [MANIFEST], "docker": [DOCKER],
}  # fmt: skip
