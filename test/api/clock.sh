#!/usr/bin/env bash
# Makes the wall clock of clock_test's server one that can be set.  The sanitizers' runtime
# must come first, so their build goes without.
[[ ${TEST_SANITIZED:-} != ON ]] || exit 0
head -c 8 /dev/zero >"$TEST_WORK/shift"
cc -shared -fPIC -O2 -o "$TEST_WORK/clock.so" "$(dirname "${BASH_SOURCE[0]}")/clock_shift.c"
echo "CLOCK_SHIFT=$TEST_WORK/shift"
echo "LD_PRELOAD=$TEST_WORK/clock.so"
