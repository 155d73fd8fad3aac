# Runs after start.sh, in the same shell, on a host without a Python that will do: takes the runtime
# from stdin, checks it, unpacks it beside its place, checks that, and renames it into its place.
#
# Set ahead of it: SETTLE, a program; SUM and SIZE of the archive, BUSYBOX_SUM and BUSYBOX_SIZE.
# What it wants next it says as {"send": …}. Whatever ends it, nothing has the runtime's name that
# was not whole under another; what an interrupted one leaves is removed by the next.

[ -z "$LACKS" ] || fail "without Python it needs these commands:$LACKS"
for folder in "$STATE" "$HOME_OF_ALL"; do
  [ -d "$folder" ] || mkdir -p "$folder" || fail "$folder cannot be made"
  is_private "$folder" || fail "$WHY"
  chmod 700 "$folder" || fail "chmod 700 $folder is not allowed"
done

# What is left of a shell that is gone, in this boot of the host or an earlier one.
read -r BOOT </proc/sys/kernel/random/boot_id || fail "/proc/sys/kernel/random/boot_id cannot be read"
BOOT=${BOOT%%-*}
for old in "$HOME_OF_ALL"/*.tmp; do
  pid=${old%.tmp} pid=${pid##*.}
  case $old in *."$BOOT"."$pid".tmp) kill -0 "$pid" 2>/dev/null && continue ;; esac
  rm -rf "$old"
done
NEW=$HOME_OF_ALL/$ID.$BOOT.$$.tmp
trap 'rm -rf "$NEW"' 0
trap 'exit 1' 1 2 3 13 15
mkdir "$NEW" "$NEW/tree" || fail "$NEW cannot be made"

# SELinux: the labels that programs and libraries of the host have, where it has labels.
relabel() {
  command -v chcon >/dev/null || return 0
  chcon -R --reference="$1" "$2" 2>/dev/null || return 0
}

# Take so many ($1) bytes of stdin to the file $2; their sum is $3. Some head reads more than it
# gives; nothing is sent behind these bytes before the next thing is asked for.
take() {
  head -c "$1" >"$2" || fail "$2 cannot be written"
  [ "$(ls -ln "$2" | { read -r mode links user group size rest; echo "$size"; })" = "$1" ] ||
    fail "the connection ended before all of the runtime had come"
  is_sum "$2" "$3" || fail "the runtime arrived damaged: its sha256 is not the one announced"
}

echo '{"send": "busybox"}'
take "$BUSYBOX_SIZE" "$NEW/busybox" "$BUSYBOX_SUM"
chmod 700 "$NEW/busybox" || fail "$NEW/busybox cannot be made a program"
relabel /usr/bin "$NEW/busybox"
"$NEW/busybox" true || fail "no program can be run in $HOME_OF_ALL: its file system is mounted noexec, or a policy forbids it"

echo '{"send": "archive"}'
take "$SIZE" "$NEW/archive" "$SUM"
"$NEW/busybox" tar -x -J -f "$NEW/archive" -C "$NEW/tree" || fail "$NEW/tree cannot be written"
rm -f "$NEW/archive"
relabel /usr/lib "$NEW/tree/lib"
relabel /usr/bin "$NEW/tree/bin"
relabel /usr/bin "$NEW/tree/$LOADER"
is_whole "$NEW/tree" || fail "the runtime is not whole once it is unpacked"
runtime_python "$NEW/tree" "$SETTLE" "$NEW/tree" "$HOME_OF_IT" </dev/null || fail "the runtime cannot be put in its place"
rm -rf "$NEW"
trap - 0 1 2 3 13 15
echo '{"send": "code"}'
be_runtime "$HOME_OF_IT"
