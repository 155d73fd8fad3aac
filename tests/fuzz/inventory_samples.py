"""Inventories that others keep, as the fuzzing begins with them."""

INI = b"""\
[OSEv3:children]
masters
etcd
[OSEv3:vars]
ansible_ssh_user=root
labels={"region": "infra", "x": [1, 2]}
[masters]
master[0:2].example.com:2222 ip=192.0.2.1 args='-o ProxyJump=b' # two
[etcd]
[2001:db8::1]:22
[a:c]-node
"""
YAML = b"""\
all:
  vars: {ansible_user: core}
  children:
    etcd:
      hosts:
        master[0:2]: {ansible_host: "2001:db8::9", secret: !vault x}
      children: {masters: {hosts: m.example.com}}
"""
NODES = (
    b'{"items": [{"metadata": {"name": "m0", "labels": {"node-role.kubernetes.io/master": ""}},'
    b' "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}]}'
)
INVENTORIES = {"inventory": [INI], "inventory.yaml": [YAML], "nodes": [NODES]}
