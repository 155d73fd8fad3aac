# Runs on a host, as root, before anything else of ours: takes a Python that will do, and becomes it.
#
# Set ahead of it: SEARCH, a PATH; PYTHONS, names to look for; CHECK, a program that says what a Python
# is or lacks, and whether it will do. POSIX sh alone. Short, since a shell reads it byte by byte: what
# only hosts without such a Python need is in the next line (start.sh), which a Python passes over.

umask 077
cd / || exit 1
PATH=$SEARCH
export PATH

# Only letters that can stand in JSON as they are.
clean() (
  LC_ALL=C
  case $1 in *[!\ -~]* | *[\"\\]*) echo '?' ;; *) echo "$1" ;; esac
)

FOUND=
for name in $PYTHONS; do
  path=$(command -v "$name") || continue
  told=$("$path" -E -s -S -c "$CHECK" 2>/dev/null </dev/null) &&
    exec "$path" -E -s -S -c "exec((input(), input())[1])"
  FOUND="${FOUND:+$FOUND, }$name $(clean "${told:-which does not start}")"
done
read -r line && eval "$line"
