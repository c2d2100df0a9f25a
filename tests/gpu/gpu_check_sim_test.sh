#!/bin/sh
# gpu_check_sim_test.sh BUILD - scripts/gpu-check.sh --multi from beginning to end on two simulated cards, so that a wrong option or a wrong word
# shows here and not on a machine with cards. (One card: tests/gpu/bundle_test.sh, from the bundle.) Run from the root.
set -u
build=$1
failures=0
bad() {
    echo "failed: $*" >&2
    failures=$((failures + 1))
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export LORAT_CUDA="$build/tests/sim/lorat_cuda_sim.so" LORAT_SIM_CARDS=3090
said=$(sh scripts/gpu-check.sh --multi --build "$build" --output "$tmp/none" 2>&1)
[ $? = 1 ] || bad "one card is enough for --multi"
case $said in *"found 1 card(s), expected two or more"*) ;; *) bad "with one card it says: $said" ;; esac
[ ! -e "$tmp/none" ] || bad "with one card it wrote a table"

export LORAT_SIM_CARDS=3090,3090
sh scripts/gpu-check.sh --multi --build "$build" --output "$tmp/out" >"$tmp/said" 2>&1 || { bad "--multi left with $?"; cat "$tmp/said" >&2; }
table=$(cat "$tmp"/out/gpu-2x-simulated-card-*.md)
for row in "doctor: training can start | ok" "two ranks: sums and gathers | ok" "bench comm, auto: every result is right | ok" \
    "bench comm, nvlink | not run: compute.interconnect: nvlink" "bytes: host | ok" "bytes: whole-auto | ok" "bytes: sharded-auto | ok" "the same bits | ok" \
    "preflight, auto | - | 2 ranks: " "two cards against one | 98 % or more | " "14B sharded, small micro-batch, pcie | - | "; do
    case $table in *"$row"*) ;; *) bad "the table has no \"$row\"" ;; esac
done
case $table in *FAILED*) bad "something failed: $(printf '%s\n' "$table" | grep FAILED)" ;; esac
[ -z "$(ls -d models/.gpu-check-* 2>/dev/null)" ] || bad "models with random weights were left behind"
for kind in log html; do ls "$tmp"/out/*.$kind >/dev/null 2>&1 || bad "there is no .$kind"; done
[ $failures = 0 ] || { printf '%s\n' "$table" >&2; exit 1; }
