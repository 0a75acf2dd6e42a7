#!/usr/bin/env bash
# The sources are formatted and lint-free, and nothing in them is vendored or unfinished.
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$home"
passed=0 failed=0

check() { # NAME COMMAND...: fails when the command prints or fails
  local name=$1 out
  shift
  if out=$("$@" 2>&1) && [[ -z $out ]]; then
    passed=$((passed + 1))
    echo "ok $name"
  else
    failed=$((failed + 1))
    printf 'not ok %s\n%s\n' "$name" "$(head -n 40 <<<"$out")"
  fi
}

format() { find core test -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run -Werror 2>&1 | grep -E 'error|warning' | head -n 20 || true; }
lua_lint() { luacheck -q --no-color lua examples test/api | grep -vE '^Total: 0 warnings / 0 errors|^$' || true; }
shell_lint() { for f in omade .ci/run test/*.sh test/*/*.sh; do bash -n "$f"; done; }
marks() { grep -rnE '\b(TODO|FIXME|XXX|HACK)\b' core lua migrations seeds examples omade README.md docs || true; }
vendored() { git ls-files 2>/dev/null | grep -E '(^|/)(vendor|third_party|node_modules|llhttp\.c)(/|$)' || true; }
found_by_machine() { git ls-files test/fuzz/crashes 2>/dev/null | grep -E '/[0-9a-f]{40}$' || true; }

check 'clang-format' format
check 'luacheck' lua_lint
check 'shell syntax' shell_lint
check 'no marks of unfinished work' marks
check 'nothing vendored' vendored
check 'inputs of the fuzzers have names' found_by_machine

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
