#!/bin/sh
# Runs a program with the interpreter that is carried for hosts, where this machine has none that
# fits. Unpacked once, below ~/.cache/etcd-rescue.
set -eu
umask 077
here=${0%/*}
machine=$(uname -m)
stem=etcd-rescue-runtime-$machine
archive=$here/runtime/$stem.tar.xz
case $machine in
  x86_64) loader=lib/ld-linux-x86-64.so.2 ;;
  aarch64) loader=lib/ld-linux-aarch64.so.1 ;;
  *) loader= ;;
esac
if [ -z "$loader" ] || [ ! -f "$archive" ]; then
  read -r pythons <"$here/wheels/PYTHONS"
  echo "fab: no Python here that the wheels are for: $pythons" >&2
  echo "why:  and no interpreter of its own is in this bundle for a machine like this ($machine)" >&2
  echo "next: PYTHON=/path/to/python3 sh fab; or make the bundle with: fab bundle --python VERSION" >&2
  exit 2
fi
read -r hash rest <<END
$(sha256sum "$archive")
END
cache=${XDG_CACHE_HOME:-$HOME/.cache}/etcd-rescue
top=$cache/python-$hash
if [ ! -d "$top" ]; then
  mkdir -p "$cache"
  new=$(mktemp -d "$cache/new-XXXXXX")
  if ! { xz -dc "$archive" | tar -xf - -C "$new"; }; then
    rm -rf "$new"
    echo "fab: the interpreter that is carried could not be unpacked (needs tar and xz)" >&2
    exit 1
  fi
  mv -T "$new" "$top" 2>/dev/null || rm -rf "$new"
fi
exec "$top/$loader" --inhibit-cache --library-path "$top/lib" "$top/bin/python3.11" -E -s "$@"
