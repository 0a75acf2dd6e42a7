#!/usr/bin/env bash
# deploy/assets/install.sh: what it installs is whole and what the lock file names, or there
# is no stamp.
#
#   test/cli/assets_test.sh
set -euo pipefail

# shellcheck source=test/cli/asserts.sh
source "$(dirname "${BASH_SOURCE[0]}")/asserts.sh"

trap 'rm -rf "$work"' EXIT
export npm_config_registry=file://$work/registry

publish() { # NAME ARCHIVE: version 1.0.0 in the registry, and in the lock file
  local folder=$work/registry/$1/-
  mkdir -p "$folder"
  cp "$2" "$folder/${1##*/}-1.0.0.tgz"
  cat >>"$work/lock.json" <<JSON
    "node_modules/$1": {
      "version": "1.0.0",
      "integrity": "sha512-$(openssl dgst -sha512 -binary "$2" | base64 -w 0)"
    },
JSON
}

install() { run 60 "$home/deploy/assets/install.sh" -- "$work/lock.json" "$work/assets"; }
stamped() { [[ -e $work/assets/stamp ]]; }

mkdir -p "$work/package"
echo 'one' >"$work/package/index.js"
tar -czf "$work/good.tgz" -C "$work" package
echo 'no archive' >"$work/bad.tgz"

publish plain "$work/good.tgz"
publish @scope/scoped "$work/good.tgz"
install
check 'two packages' stamped
check 'a package' cmp -s "$work/package/index.js" "$work/assets/node_modules/plain/index.js"
check 'a package of a scope' cmp -s "$work/package/index.js" "$work/assets/node_modules/@scope/scoped/index.js"

npm_config_registry=file://$work/nowhere install
check 'once is enough' stamped

publish broken "$work/bad.tgz"
install
check 'an archive that cannot be unpacked' not stamped
check 'it is said' says 0 'could not be installed'

sed -i '/broken/,$d' "$work/lock.json"
install
check 'again without it' stamped
check 'of others nothing is left' not test -e "$work/assets/node_modules/broken"

cp "$work/bad.tgz" "$work/registry/plain/-/plain-1.0.0.tgz"
echo >>"$work/lock.json"
install
check 'not what the lock file names' not stamped
check 'it is named' says 0 'plain 1.0.0 is not what'

finish_test
