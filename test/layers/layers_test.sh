#!/usr/bin/env bash
# Arrows point down only: what each layer may include, and which symbols it may use.
#
#   layers_test.sh BUILD_DIR      a build without sanitizers
set -euo pipefail

home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${1:?a build folder is expected}
passed=0 failed=0

report() { # NAME PROBLEMS
  if [[ -z $2 ]]; then
    passed=$((passed + 1))
    echo "ok $1"
  else
    failed=$((failed + 1))
    printf 'not ok %s\n%s\n' "$1" "$2"
  fi
}

# ---- includes: "layer/..." of which layers ----------------------------------------------
includes() { # LAYER ALLOWED...
  local layer=$1 found
  shift
  local allowed
  allowed=$(IFS='|'; echo "$layer|$*" | tr ' ' '|')
  found=$(grep -nE '^#include "[a-z_]+/' "$home/core/$layer"/*.[ch] | grep -vE "#include \"($allowed)/" || true)
  report "includes of $layer/" "$found"
}

includes base
includes commerce
includes http base
includes db base
includes cache base
includes script base commerce http db cache

outward=$(grep -nE '^#include "(config|runtime|worker|supervisor|slots|control|command|trial|watch)\.h"' \
  "$home"/core/*/*.[ch] || true)
report 'no layer includes the wiring' "$outward"

lua=$(grep -nE '#include <(lua|lauxlib|lualib)\.h>' "$home"/core/{base,commerce,http,db,cache}/*.[ch] || true)
report 'only script/ knows Lua' "$lua"

own=$(for file in "$home"/core/*/*.c; do
  header=${file%.c}.h
  [[ -f $header ]] || continue
  first=$(grep -m1 '^#include' "$file")
  [[ $first == "#include \"${header#"$home/core/"}\"" ]] || echo "$file: $first"
done)
report 'every .c includes its own .h first' "$own"

resumes=$(grep -ln 'lua_resume(' "$home"/core/*/*.c | grep -vE '/script/(task|coroutines)\.c$' || true)
report 'only task.c resumes tasks (coroutines.c: the ones of scripts)' "$resumes"

# ---- symbols -------------------------------------------------------------------------------
nm='nm' # objects of link-time optimisation need the compiler's own
! command -v gcc-nm >/dev/null || nm=gcc-nm

defined() { "$nm" --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u; }

undefined() { # ARCHIVE: what it takes from outside
  "$nm" -u "$1" | awk 'NF == 2 { print $2 }' | sort -u | comm -23 - <(defined "$1")
}

symbols() { # LIBRARY PATTERN
  [[ -n $(defined "$build/core/lib$1.a") ]] || report "symbols of $1" 'none can be read'
  report "symbols of $1" "$(undefined "$build/core/lib$1.a" | grep -vE "^($2)$" || true)"
}

libc='mem[a-z]+|str[a-z]+|__assert_fail|__ctype_b_loc|__ctype_tolower_loc|__stack_chk_fail|__isoc99_sscanf'
base='buf_[a-z_]+|arena_[a-z_]+|mem_[a-z_]+|utf8_[a-z_]+|json_[a-z_]+'
symbols commerce 'memcpy|memset|memmove|__assert_fail|_GLOBAL_OFFSET_TABLE_'
symbols http_pure "$libc|$base|llhttp_[a-z_]+|snprintf|inet_pton|inet_ntop|_GLOBAL_OFFSET_TABLE_"

echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
