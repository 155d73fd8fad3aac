# The documented way out of a lost quorum, as an expert would script it: --force-new-cluster goes
# into the static pod's manifest, and out again once etcd serves alone. Runs on the survivor as root.
set -euo pipefail
manifest=/etc/kubernetes/manifests/etcd.yaml
aside=$(mktemp -d /var/lib/manifest-way.XXXXXX)
pki=/etc/kubernetes/pki/etcd

# etcdctl lies in the image; the running etcd's root is the quickest way to it.
etcd_root=/proc/$(pgrep -xo etcd)/root
cp "$(ls "$etcd_root"/{usr/local/,usr/,}bin/etcdctl 2>/dev/null | head -n 1)" "$aside/etcdctl"
etcdctl() {
  ETCDCTL_API=3 "$aside/etcdctl" --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt \
    --cert=$pki/healthcheck-client.crt --key=$pki/healthcheck-client.key \
    --dial-timeout=1s --command-timeout=1s "$@" 2>/dev/null
}
flagged() { pgrep -f 'etcd .*--force-new-cluster' >/dev/null; }
serves() { etcdctl put /bench/script done >/dev/null; }
is_alone() { local members; members=$(etcdctl member list) && [ "$(wc -l <<<"$members")" = 1 ]; }

cp -a $manifest "$aside/without"
sed 's/^\( *\)- etcd$/&\n\1- --force-new-cluster/' "$aside/without" >"$aside/with"
mv "$aside/with" $manifest
until flagged && is_alone && serves; do sleep 0.1; done

mv "$aside/without" $manifest
while flagged; do sleep 0.1; done
until serves; do sleep 0.1; done
