#!/bin/sh
# Says whether this bundle is whole, and who signed it. Needs coreutils and ssh-keygen, no network.
#
#   sh verify.sh --signer KEY.pub            it must be signed by this key
#   sh verify.sh --allowed-signers FILE      … by one of these (ALLOWED SIGNERS of ssh-keygen(1))
#   sh verify.sh                             damage only: anybody may have made it
#   … --revoked FILE                         keys that count no more, as ssh-keygen -r takes them
#
# Whoever can change the bundle can change this file too: where that matters use your own copy of
# it, as in: sh my-verify.sh --bundle DIRECTORY --signer KEY.pub
# Ends with 0 where all is as it was made, 1 where it is not, 2 where the question makes no sense.
set -eu
LC_ALL=C
export LC_ALL
unset CDPATH
newline='
'
namespace=etcd-rescue@bundle

refuse() {
  printf 'REFUSED: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf 'next: %s\n' "$2" >&2
  exit 1
}

usage() {
  printf '%s\n' "$1" 'usage: sh verify.sh [--signer KEY.pub | --allowed-signers FILE] [--revoked FILE] [--bundle DIRECTORY]' >&2
  exit 2
}

signer='' allowed='' revoked='' bundle=''
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || usage "$1 needs a value, or is no option"
  case $1 in
    --signer) signer=$2 ;;
    --allowed-signers) allowed=$2 ;;
    --revoked) revoked=$2 ;;
    --bundle) bundle=$2 ;;
    *) usage "$1 is no option" ;;
  esac
  shift 2
done
[ -z "$signer" ] || [ -z "$allowed" ] || usage '--signer and --allowed-signers exclude each other'
for file in "$signer" "$allowed" "$revoked"; do
  [ -z "$file" ] || [ -f "$file" ] || usage "$file: no such file"
done

absolute() {
  case $1 in
    '' | /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$PWD" "$1" ;;
  esac
}

signer=$(absolute "$signer") allowed=$(absolute "$allowed") revoked=$(absolute "$revoked")
if [ -z "$bundle" ]; then
  case $0 in
    */*) bundle=${0%/*} ;;
    *) bundle=. ;;
  esac
fi
cd -- "$bundle" 2>/dev/null || usage "$bundle: no such directory"
for name in SHA256SUMS BUNDLE.json; do
  if [ -L "$name" ] || [ ! -f "$name" ]; then
    refuse "$name is missing: this is no whole bundle" 'unpack the archive anew'
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# 1. Every line of SHA256SUMS is a hash, two spaces and a plain name.
listed=$newline
count=0
while IFS= read -r line || [ -n "$line" ]; do
  name=${line#????????????????????????????????????????????????????????????????  }
  hash=${line%"  $name"}
  case $name in
    '' | "$line" | /* | *//* | */ | . | .. | ./* | ../* | */./* | */../* | */. | */.. | *[!A-Za-z0-9._/+-]*)
      refuse 'SHA256SUMS has a line that is none of its own' 'take the bundle from its source again' ;;
  esac
  case $hash in
    *[!0-9a-f]*) refuse 'SHA256SUMS has a hash that is none' 'take the bundle from its source again' ;;
  esac
  case $listed in
    *"$newline$name$newline"*) refuse "SHA256SUMS names $name twice" ;;
  esac
  listed=$listed$name$newline
  count=$((count + 1))
done <SHA256SUMS

# 2. Exactly the files that it names are there, and each is a file.
look() {
  for path in "$1"* "$1".*; do
    case $path in
      */. | */.. | . | ..) continue ;;
    esac
    if [ -L "$path" ]; then
      refuse "$path is a link: a bundle has none" 'take the bundle from its source again'
    elif [ -d "$path" ]; then
      look "$path/"
    elif [ -e "$path" ]; then
      case $path in
        SHA256SUMS | SHA256SUMS.sig) continue ;;
      esac
      case $path in
        *[!A-Za-z0-9._/+-]*) refuse "a file that does not belong here: $(printf '%s' "$path" | tr -cd '[:print:]')" ;;
      esac
      case $listed in
        *"$newline$path$newline"*) ;;
        *) refuse "$path does not belong here: SHA256SUMS does not name it" "take it away, or unpack the archive anew" ;;
      esac
      [ -f "$path" ] || refuse "$path is no file"
    fi
  done
}
look ''
while IFS= read -r line; do
  name=${line#*  }
  [ -f "$name" ] || refuse "$name is missing" 'unpack the archive anew'
done <SHA256SUMS

# 3. Every byte of them is as it was.
if ! sha256sum --check --strict --quiet SHA256SUMS >"$work/said" 2>&1; then
  while IFS= read -r line; do
    case $line in
      *': FAILED'*) refuse "${line%%: FAILED*} was changed, or damaged on the way" 'take the bundle from its source again' ;;
    esac
  done <"$work/said"
  cat "$work/said" >&2
  refuse 'the files are not what SHA256SUMS says'
fi

# 4. Who vouches for SHA256SUMS, and so for all of it.
if [ ! -e SHA256SUMS.sig ]; then
  [ -z "$signer$allowed" ] || refuse 'the bundle is not signed: SHA256SUMS.sig is missing' 'get a signed one: fab bundle --sign KEY'
  printf 'whole: %s files are as they were made\n' "$count"
  printf 'UNSIGNED: nobody vouches for what is in it\n'
  exit 0
fi
[ -f SHA256SUMS.sig ] && [ ! -L SHA256SUMS.sig ] || refuse 'SHA256SUMS.sig is no file'

# The signature's text is the one text of its bytes, so that no byte of it can be another.
armour=''
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    '-----BEGIN SSH SIGNATURE-----' | '-----END SSH SIGNATURE-----') ;;
    *) armour=$armour$line$newline ;;
  esac
done <SHA256SUMS.sig
damaged='SHA256SUMS.sig was changed, or damaged on the way'
printf '%s' "$armour" | base64 -d >"$work/bytes" 2>/dev/null || refuse "$damaged"
{
  printf '%s\n' '-----BEGIN SSH SIGNATURE-----'
  base64 -w 70 "$work/bytes"
  printf '%s\n' '-----END SSH SIGNATURE-----'
} >"$work/again"
[ "$(cat SHA256SUMS.sig; printf x)" = "$(cat "$work/again"; printf x)" ] || refuse "$damaged"

if [ -z "$signer$allowed" ]; then
  said=$(ssh-keygen -Y check-novalidate -n "$namespace" -s SHA256SUMS.sig <SHA256SUMS 2>&1) ||
    refuse 'the signature does not fit SHA256SUMS' 'take the bundle from its source again'
  printf 'whole: %s files are as they were made\n' "$count"
  printf 'signed with %s\n' "${said##* }"
  printf 'NOT CHECKED whose key that is: sh verify.sh --signer KEY.pub\n'
  exit 0
fi
if [ -n "$signer" ]; then
  read -r key <"$signer" || [ -n "${key:-}" ] || usage "$signer: is empty"
  printf '* namespaces="%s" %s\n' "$namespace" "$key" >"$work/allowed"
  who=bundle
else
  cat "$allowed" >"$work/allowed"
  who=''
  ssh-keygen -Y find-principals -s SHA256SUMS.sig -f "$work/allowed" >"$work/who" 2>/dev/null || :
  read -r who <"$work/who" || refuse "the signer is none of those in $allowed" 'ask whoever made the bundle for the key'
fi
set -- -Y verify -f "$work/allowed" -I "$who" -n "$namespace" -s SHA256SUMS.sig
[ -z "$revoked" ] || set -- "$@" -r "$revoked"
if ! said=$(ssh-keygen "$@" <SHA256SUMS 2>&1); then
  [ -z "$signer" ] || refuse "it is not signed by the key in $signer" 'ask whoever made the bundle for the key'
  refuse "it is signed by $who, whose signature does not count: $said"
fi
printf 'whole: %s files are as they were made\n' "$count"
if [ -n "$signer" ]; then
  printf 'signed by the key in %s\n' "$signer"
else
  printf 'signed by %s\n' "$who"
fi
