#!/bin/sh
# scripts_test.sh - every shell script of the tree parses, and shellcheck has nothing to say where it is installed. Run from the root.
set -u
failures=0
scripts=$(find scripts tests -name '*.sh' | sort)
for script in $scripts; do
    sh -n "$script" || failures=$((failures + 1))
done
[ $failures = 0 ] || exit 1
command -v shellcheck >/dev/null || { echo "skipped: shellcheck is not installed; all parse"; exit 77; }
# Left out: an empty value on purpose (SC1007), and what a part that is sourced shares with its caller (SC2034, SC2154).
# shellcheck disable=SC2086 # a list
shellcheck -s sh -S warning -e SC1007,SC2034,SC2154 $scripts
