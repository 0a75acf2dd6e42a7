#!/bin/sh
# Installs packages from npm's registry into FOLDER/node_modules, exactly those that a
# package-lock.json names.  It needs no npm, which on Debian is four hundred packages, and
# runs no package's scripts.  FOLDER/stamp is there when all are: without a network nothing
# fails, but something is missing.
#
#   deploy/assets/install.sh package-lock.json FOLDER
set -eu

lock=$1
folder=$2
registry=${npm_config_registry:-https://registry.npmjs.org}
mkdir -p "$folder"

exec 9>"$folder/.lock"
flock 9
cmp -s "$lock" "$folder/package-lock.json" && [ -e "$folder/stamp" ] && exit 0

locked() { # a line for each package: name, version, SHA-512 in base64
  awk -F '"' '
    $2 ~ /^node_modules\// { name = substr($2, 14) }
    $2 == "version" { version = $4 }
    $2 == "integrity" && name { print name, version, substr($4, 8) }' "$lock"
}

install_package() { # NAME VERSION SHA512
  archive=$folder/package.tgz
  curl -sSf --proto-default https --connect-timeout 5 --max-time 60 -o "$archive" \
    "${registry%/}/$1/-/${1##*/}-$2.tgz" || return 1
  if [ "$(openssl dgst -sha512 -binary "$archive" | base64 -w 0)" != "$3" ]; then
    echo "$1 $2 is not what package-lock.json names" >&2
    return 1
  fi
  mkdir -p "$folder/node_modules/$1" &&
    tar -xzf "$archive" -C "$folder/node_modules/$1" --strip-components 1 --no-same-owner &&
    rm -f "$archive"
}

rm -rf "$folder/stamp" "$folder/node_modules"
if locked | while read -r name version sum; do
  install_package "$name" "$version" "$sum" || exit 1
done >"$folder/install.log" 2>&1; then
  cp "$lock" "$folder/package-lock.json"
  touch "$folder/stamp"
else
  echo "the packages of $lock could not be installed: $(tail -n 1 "$folder/install.log")"
fi
