#!/bin/sh
# gpu-check.sh - everything that can only be known on a real NVIDIA card: is each kernel right here, are results the same bits each time,
# and how fast is it. From the source tree or from an unpacked bundle. Installs nothing, changes no setting of the card.
#   --multi        two cards instead of one: links, the same bits as one card, scaling, NVLink against PCIe
#   --quick        the checks, without the benchmarks
#   --dry-run      print what would be run
#   --build DIR    the build folder of a source tree (default build)
#   --output DIR   where the log and the table go (default docs/measurements)
# A step has a time limit; one that fails does not stop the next. Exit code 1 when a check failed, 0 otherwise.
# With $LORAT_CUDA naming the simulated plug-in the whole script runs on no card at all, with tiny shapes: a test of the script.
# The parts: gpu-check-one.sh (one card), gpu-check-multi.sh (two).
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD

quick= dry= multi= build=build output=docs/measurements
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=1 ;;
        --dry-run) dry=1 ;;
        --build) build=${2:?--build needs a folder}; shift ;;
        --output) output=${2:?--output needs a folder}; shift ;;
        --multi) multi=1 ;;
        --help | -h) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "error: $1: unknown, expected --multi, --quick, --dry-run, --build DIR or --output DIR" >&2; exit 2 ;;
    esac
    shift
done

# Said before minutes of building. $LORAT_CUDA may name a simulated card; what it names is asked below.
no_card() {
    echo "error: nvidia-smi: finds no NVIDIA card, expected one with its driver. Nothing was checked; --dry-run prints what would be" >&2
    exit 1
}
[ -n "$dry${LORAT_CUDA:-}" ] || nvidia-smi -L >/dev/null 2>&1 || no_card

# ---- where the programs are ----
if [ -x bin/lorat ] && [ -d lib/lorat/check ]; then
    lorat=$root/bin/lorat programs=$root/lib/lorat/check golden=$root/lib/lorat/check/test_golden data=$root/lib/lorat/check
    plugin=$root/lib/lorat/lorat_cuda.so
else
    case $build in /*) ;; *) build=$root/$build ;; esac
    lorat=$build/lorat programs=$build/tests/gpu golden=$build/tests/model/test_golden data=$root plugin=$build/lorat_cuda.so
    if [ -z "$dry" ] && ! { [ -x "$lorat" ] && [ -x "$golden" ] && [ -e "$programs/twins_sim.so" ]; }; then
        echo "building $build; with every kernel that takes minutes" >&2
        { [ -e "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -G Ninja; } >/dev/null && cmake --build "$build" --target lorat gpu_check >/dev/null ||
            { echo "error: $build: the check programs cannot be built, expected cmake, ninja and nvcc 12.8 or later. See sh scripts/setup-cuda.sh" >&2; exit 1; }
    fi
fi
export LORAT_CUDA="${LORAT_CUDA:-$plugin}"
[ -n "$dry" ] || [ -e "$LORAT_CUDA" ] || { echo "error: $LORAT_CUDA: not there, expected the CUDA plug-in. Build it with nvcc: sh scripts/setup-cuda.sh" >&2; exit 1; }

tmp=$(mktemp -d)
scratch= # large files of the two-card part
trap 'rm -rf "$tmp" ${scratch:+"$scratch"}' EXIT
trap 'exit 130' INT TERM HUP

version=$([ -n "$dry" ] || "$lorat" version 2>&1)
simulated=
case $version in *simulated*) simulated=1 ;; esac
[ -n "$dry$simulated" ] || nvidia-smi -L >/dev/null 2>&1 || no_card
if [ -n "$simulated" ]; then
    card="simulated card"
else
    card=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 2>/dev/null || echo card)
fi
cards=$(printf '%s\n' "$version" | grep -c '^card [0-9]')
if [ -n "$multi" ] && [ -z "$dry" ] && [ "$cards" -lt 2 ]; then
    echo "error: --multi: found $cards card(s), expected two or more. Nothing was checked; without --multi one card is" >&2
    exit 1
fi
smi=0 # the cards that nvidia-smi is asked about
[ -z "$multi" ] || smi=0,1
slug=$(printf '%s' "$card" | sed 's/NVIDIA //; s/GeForce //' | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
[ -n "$dry" ] || { mkdir -p "$output" && output=$(cd "$output" && pwd); } || exit 1
stem=gpu-${multi:+2x-}$slug-$(date +%F)
log=$output/$stem.log
table=$output/$stem.md
if [ -n "$dry" ]; then log=/dev/null; else : >"$log"; fi
checks=$tmp/checks
measured=$tmp/measured
: >"$checks"
: >"$measured"
failed=0
began=$(date +%s)

say() { printf '[%4d s] %s\n' "$(($(date +%s) - began))" "$*"; }
limited() { # SECONDS COMMAND...
    if command -v timeout >/dev/null; then timeout -k 10 "$@"; else shift; "$@"; fi
}
# step LIMIT COMMAND...: output into $tmp/out and the log; its exit code.
step() {
    printf '\n==== %s\n' "$*" >>"$log"
    (cd "$data" && limited "$@") >"$tmp/out" 2>&1
    rc=$?
    cat "$tmp/out" >>"$log"
    printf '==== exit code %d\n' "$rc" >>"$log"
    return $rc
}
# check NAME LIMIT COMMAND...
check() {
    name=$1
    shift
    if [ -n "$dry" ]; then
        printf '%s\n    (at most %s s)' "$name" "$1"; shift; printf ' %s' "$@"; printf '\n'
        return
    fi
    at=$(date +%s)
    step "$@"
    rc=$?
    case $rc in
        0) result=ok ;;
        77) result="not run: $(sed -n 's/^skipped: //p' "$tmp/out" | head -n 1)" ;;
        124 | 137) result="FAILED: not done in $1 s" failed=1 ;;
        *) result="FAILED (exit code $rc)" failed=1 ;;
    esac
    result "$name" "$result" "$(($(date +%s) - at)) s"
}
result() { # NAME RESULT [TIME]
    say "$1: $2"
    printf '| %s | %s | %s |\n' "$1" "$2" "${3:-}" >>"$checks"
}
not_run() { # NAME WHY
    if [ -n "$dry" ]; then printf '%s\n    not run: %s\n' "$1" "$2"; else result "$1" "not run: $2"; fi
}

# ---- facts of the device ----
facts() {
    date
    uname -srm
    printf '%s\n' "$version"
    [ -n "$simulated" ] || nvidia-smi -q -i $smi -d POWER,CLOCK,MEMORY,TEMPERATURE,PERFORMANCE,COMPUTE,ECC
}
[ -n "$dry" ] || { facts >>"$log" 2>&1; say "$card"; }

# ---- what is run ----
# A job over a tiny model, to be run in $tmp/work.
tiny_job() {
    cat >"$tmp/job.yaml" <<END
name: gpu-check
model: {path: $data/tests/golden/tiny-qwen3}
data: {train: $tmp/data.h5, sequence_length: 64}
lora: {rank: 8, alpha: 16, dropout: 0.1}
train: {max_steps: 6, batch: 4, micro_batch: 2, learning_rate: 1.0e-3, warmup_steps: 2}
compute: {device: cuda}
checkpoint: {every: 2}
END
    awk 'BEGIN {
        srand(7)
        for (i = 0; i < 40; i++) {
            printf "{\"tokens\": ["
            n = 20 + int(rand() * 80)
            for (k = 0; k < n; k++)
                printf "%s%d", k ? ", " : "", 3 + int(rand() * 60)
            printf "], \"loss\": ["
            for (k = 0; k < n; k++)
                printf "%s1", k ? ", " : ""
            printf "]}\n"
        }
    }' >"$tmp/rows.jsonl"
    [ -n "$dry" ] || "$lorat" data build --input "$tmp/rows.jsonl" -o "$tmp/data.h5" --vocab 64 >>"$log" 2>&1
    (cd "$tmp" && mkdir -p work)
}
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p" "$tmp/out" | head -n 1; }
words() { sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" "$tmp/out" | head -n 1; } # a text that may have commas
row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3" >>"$measured"; } # WHAT EXPECTED MEASURED
if [ -n "$multi" ]; then . scripts/gpu-check-multi.sh; else . scripts/gpu-check-one.sh; fi
[ -z "$dry" ] || exit 0

# ---- the table ----
[ -n "$simulated" ] || nvidia-smi -q -i $smi -d POWER,CLOCK,TEMPERATURE,PERFORMANCE >>"$log" 2>&1
{
    printf '# %s, %s\n\n' "$card" "$(date +%F)"
    printf '`sh scripts/gpu-check.sh%s%s`, %d s. Everything that was said: %s.\n\n' "${multi:+ --multi}" "${quick:+ --quick}" "$(($(date +%s) - began))" "$(basename "$log")"
    [ -z "$simulated" ] || printf 'The card is simulated: nothing here says how fast anything is.\n\n'
    printf '```\n%s\n```\n\n' "$version"
    [ -n "$simulated" ] || printf '%s\n\n' "$(nvidia-smi -i $smi --query-gpu=name,driver_version,power.limit,clocks.max.sm,clocks.max.mem,ecc.mode.current --format=csv,noheader)"
    printf '| check | result | time |\n| --- | --- | --- |\n'
    cat "$checks"
    if [ -s "$measured" ]; then
        printf '\n| measurement | expected | measured |\n| --- | --- | --- |\n'
        cat "$measured"
    fi
} >"$table"
say "$table"
exit $failed
