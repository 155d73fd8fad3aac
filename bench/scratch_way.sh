# The way through a scratch etcd, as an expert would script it: exactly the steps, no journal, no
# checks of the other members, no hashes, no way back. Runs on the survivor as root.
set -euo pipefail
manifest=/etc/kubernetes/manifests/etcd.yaml
data=/var/lib/etcd
aside=$(mktemp -d /var/lib/scratch-way.XXXXXX)
pki=/etc/kubernetes/pki/etcd

etcd_root=/proc/$(pgrep -xo etcd)/root
for program in etcd etcdctl; do
  cp "$(ls "$etcd_root"/{usr/local/,usr/,}bin/$program 2>/dev/null | head -n 1)" "$aside/$program"
done
serves() {
  ETCDCTL_API=3 "$aside/etcdctl" --endpoints="https://127.0.0.1:$1" --cacert=$pki/ca.crt \
    --cert=$pki/healthcheck-client.crt --key=$pki/healthcheck-client.key \
    --dial-timeout=1s --command-timeout=1s put /bench/script done >/dev/null 2>&1
}
value() { sed -n "s/^ *- --$1=//p" "$aside/etcd.yaml"; }

mv $manifest "$aside/etcd.yaml"
while pgrep -x etcd >/dev/null; do sleep 0.1; done
cp -a $data "$aside/copy"

"$aside/etcd" --force-new-cluster --name="$(value name)" --data-dir="$aside/copy" \
  --listen-client-urls=https://127.0.0.1:12379 --listen-peer-urls=https://127.0.0.1:12380 \
  --advertise-client-urls="$(value advertise-client-urls)" \
  --cert-file=$pki/server.crt --key-file=$pki/server.key --trusted-ca-file=$pki/ca.crt \
  --client-cert-auth --peer-cert-file=$pki/peer.crt --peer-key-file=$pki/peer.key \
  --peer-trusted-ca-file=$pki/ca.crt --peer-client-cert-auth \
  --heartbeat-interval=20 --election-timeout=200 >"$aside/log" 2>&1 &
scratch=$!
until serves 12379; do sleep 0.1; done
kill $scratch
wait $scratch || true

mv $data/member "$aside/member"
mv "$aside/copy/member" $data/member
mv "$aside/etcd.yaml" $manifest
until serves 2379; do sleep 0.1; done
