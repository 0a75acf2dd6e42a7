#!/usr/bin/env bash
# Times as in production for tests of what is promised in seconds; three times as long in
# builds with sanitizers, which are slow, instead of ten times.
if [[ ${TEST_SANITIZED:-} == ON ]]; then echo OMADE_TIME_SCALE=3; else echo OMADE_TIME_SCALE=1; fi
