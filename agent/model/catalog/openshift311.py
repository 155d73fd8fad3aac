"""Actions on OpenShift 3.11: etcd.conf, flannel, API and controllers, load balancer, node, CA."""

from __future__ import annotations

from agent.model.catalog.spec import ActionSpec

SPECS = (
    ActionSpec(
        "set_conf_members",
        "write the members of now into etcd.conf, with no restart",
        "etcd's settings lie in a file beside its definition, so that a change restarts nothing",
        "put back the file's former bytes",
    ),
    ActionSpec(
        "set_flannel_endpoints",
        "take an etcd that left out of flannel's endpoints, and restart flanneld",
        "an endpoint of a member that stays is left",
        "put back the file's former bytes, and restart flanneld",
    ),
    ActionSpec(
        "restart_master",
        "restart the API or the controllers, and wait until they are healthy",
        "its definition is in place, and `master-restart` is there",
        "nothing: it runs, with nothing remembered",
    ),
    ActionSpec(
        "check_ca_files",
        "see what this master alone has: ca.serial.txt and the CA directories",
        "none",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "install_ca_files",
        "put ca.serial.txt and the CA directories in place, as the leaving master has them",
        "they were looked at right before, and no other ones are in the way",
        "move what was put in place aside",
    ),
    ActionSpec(
        "remove_backend",
        "take a master out of haproxy's backends, check the file, restart, and connect through it",
        "every backend keeps a server, and `haproxy -c` takes the new file",
        "put back the file's former bytes, and restart haproxy",
    ),
    ActionSpec(
        "drain_node",
        "drain a node: no new pods, and the ones there leave",
        "the API answers on this master",
        "let the node take pods again",
    ),
    ActionSpec(
        "park_master",
        "stop API and controllers: their definitions leave the watched directory",
        "the load balancer sends nobody here, and another master serves",
        "put the definitions back; the kubelet starts them",
    ),
    ActionSpec(
        "verify_endpoints",
        "see that service kubernetes names the master no more",
        "API and controllers of that master are stopped",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "place_master_file",
        "put a file of a master's backup back where it was, what was there being kept",
        "it is the file that was compared, and nobody changed the present one since",
        "put back what was there, byte for byte",
    ),
)
