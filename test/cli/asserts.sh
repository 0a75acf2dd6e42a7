#!/usr/bin/env bash
# For tests of the command line: where they work, and asserts.  Sourced with the arguments of
# the test.  What was run last printed to $work/out and $work/err and ended with $code.

# shellcheck disable=SC2034 # which of them a test needs, it knows
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=${1:+$(realpath "$1")}
work=$(mktemp -d)
passed=0 failed=0 code=0

check() { # WHAT COMMAND: the command succeeds
  if "${@:2}"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'not ok: %s (exit %s)\n' "$1" "$code"
    sed 's/^/  out: /' "$work/out" | head -n 60
    sed 's/^/  err: /' "$work/err" | head -n 20
  fi
}

run() { # SECONDS COMMAND -- [NAME=VALUE...] ARGUMENTS
  local limit=$1 command=() environment=()
  shift
  while [[ $1 != -- ]]; do
    command+=("$1")
    shift
  done
  shift
  while [[ ${1:-} == *=* && $1 != -* ]]; do
    environment+=("$1")
    shift
  done
  code=0
  env "${environment[@]}" timeout "$limit" "${command[@]}" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
}

omade() { run 60 "$binary" -- "$@"; } # [NAME=VALUE...] ARGUMENTS

out_has() { grep -qE -- "$1" "$work/out"; }
err_has() { grep -qE -- "$1" "$work/err"; }
not() { ! "$@"; }
ended() { [[ $code == "$1" ]]; }
says() { ended "$1" && out_has "$2"; } # EXIT PATTERN

# EXIT PATTERN: nothing on standard output, and one line on standard error that names it.
complains() {
  [[ $code == "$1" && ! -s $work/out && $(wc -l <"$work/err") == 1 ]] && err_has "$2"
}

until_true() { # COMMAND: it becomes true within 30 s
  local i
  for ((i = 0; i < 600; i++)); do
    ! "$@" || return 0
    sleep 0.05
  done
  return 1
}

finish_test() {
  echo "$passed passed, $failed failed"
  [[ $failed == 0 ]]
}
