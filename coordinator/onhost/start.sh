# Runs after find.sh, in the same shell, on a host without a Python that will do: becomes the carried
# runtime's where that is there and whole; else says what it found, and waits for what to do.
#
# Set ahead of it: STATE, the state directory; RUNTIMES, a word MACHINE:TREE_ID:ENTRIES:LOADER for
# each runtime that could be taken along. Every tool is looked for before it is needed.

unset LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT

# The interpreter of the tree $1 with the arguments that follow, by its own loader: nothing of the
# host's libraries or of its openssl.cnf is used.
runtime_python() {
  tree=$1
  shift
  OPENSSL_CONF=/dev/null "$tree/$LOADER" --inhibit-cache --library-path "$tree/lib" \
    "$tree/bin/python3.11" -E -s -S -c "$@"
}
be_runtime() {
  OPENSSL_CONF=/dev/null
  export OPENSSL_CONF
  exec "$1/$LOADER" --inhibit-cache --library-path "$1/lib" "$1/bin/python3.11" \
    -E -s -S -c 'exec(input())'
}

fail() {
  printf '{"have": false, "python": "", "arch": "%s", "error": "%s"}\n' "$MACHINE" "$(clean "$1")"
  exit 1
}

is_sum() { set -- "$2" $(sha256sum <"$1"); [ "$1" = "$2" ]; }

# $1 is a directory that only we can write to; else WHY says what it is.
is_private() {
  WHY="$1 is a link, or no directory"
  [ -d "$1" ] && [ ! -L "$1" ] || return 1
  set -- "$1" $(ls -ldn "$1")
  WHY="$1 belongs to uid $4, not to uid $(id -u)"
  [ "$4" = "$(id -u)" ] || return 1
  WHY="$1 has mode $2: others could put programs of theirs there; look at what is in it, or move it away; then: chmod 700 $1"
  case $2 in d????-??-*) return 0 ;; *) return 1 ;; esac
}

# The tree $1 is, to the bit, the one named $ID, and there is nothing else in it.
is_whole() {
  [ -d "$1" ] && [ ! -L "$1" ] && [ -f "$1/SHA256SUMS" ] || return 1
  is_sum "$1/SHA256SUMS" "$ID" || return 1
  (
    cd "$1" || exit 1
    set -- * bin/* lib/* lib/python3.11/* lib/python3.11/lib-dynload/*
    [ $# -eq "$ENTRIES" ] && sha256sum -c SHA256SUMS >/dev/null 2>&1
  )
}

MACHINE=$(uname -m)
LACKS=
for tool in sha256sum head ls id uname mkdir rm chmod; do
  command -v $tool >/dev/null || LACKS="$LACKS $tool"
done
ID=
for word in $RUNTIMES; do
  case $word in
  "$MACHINE":*)
    rest=${word#*:} ID=${word#*:} LOADER=${word##*:}
    ID=${ID%%:*} rest=${rest#*:}
    ENTRIES=${rest%%:*}
    ;;
  esac
done
HOME_OF_ALL=$STATE/runtime
HOME_OF_IT=$HOME_OF_ALL/$ID
if [ "$ID" ] && [ -z "$LACKS" ] && [ -d "$HOME_OF_IT" ]; then
  for folder in "$STATE" "$HOME_OF_ALL"; do is_private "$folder" || fail "$WHY"; done
  is_whole "$HOME_OF_IT" && "$HOME_OF_IT/bin/busybox" true && be_runtime "$HOME_OF_IT"
fi
read -r line # it was for a Python
printf '{"have": false, "python": "", "found": "%s", "arch": "%s", "lacks": "%s"}\n' "$FOUND" "$MACHINE" "${LACKS# }"
read -r line && eval "$line"
exit 0
