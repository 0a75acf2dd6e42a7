#!/bin/sh
# Installs what pages need from npm into build/assets, as the lock file says.  Without npm
# or a network nothing fails: /api/docs is then a plain page.  Scripts of packages do not
# run: one of them only counts installations.
#
#   deploy/assets/install.sh FOLDER
set -eu

here=$(dirname "$(readlink -f "$0")")
folder=$1
mkdir -p "$folder"

exec 9>"$folder/.lock"
flock 9
cmp -s "$here/package-lock.json" "$folder/package-lock.json" && [ -e "$folder/stamp" ] && exit 0
if ! command -v npm >/dev/null; then
  echo "assets: npm is not installed; /api/docs is a plain page"
  exit 0
fi
rm -f "$folder/stamp"
cp "$here/package.json" "$here/package-lock.json" "$folder/"
if npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent \
  --fetch-retries=0 --fetch-timeout=20000 >"$folder/npm.log" 2>&1; then
  touch "$folder/stamp"
else
  echo "assets: npm could not install them (see $folder/npm.log); /api/docs is a plain page"
fi
