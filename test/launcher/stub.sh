#!/usr/bin/env bash
# Stands in for the binary: notes how it was called in $STUB_NOTES; `dev` runs until SIGTERM.
set -euo pipefail
printf '%s\n' "$*" >>"$STUB_NOTES/calls"
env | grep -E '^(OMADE_HOME|DATABASE_URL|APP_DATABASE_URL|REDIS_URL)=' >"$STUB_NOTES/environment.$1"
pwd >"$STUB_NOTES/folder"
[[ $1 != "$STUB_FAIL" ]] || exit 1
[[ $1 == dev ]] || exit 0
trap 'echo ended >>"$STUB_NOTES/calls"; kill $!; exit $STUB_EXIT' TERM
echo $$ >>"$STUB_NOTES/running"
sleep 60 &
wait $!
