#!/bin/sh
# gpu-check.sh - everything that can only be known on a real NVIDIA card: is each kernel right here, are results the same bits each time,
# and how fast is it. From the source tree or from an unpacked bundle. Installs nothing, changes no setting of the card.
#   --quick        the checks, without the benchmarks
#   --dry-run      print what would be run
#   --build DIR    the build folder of a source tree (default build)
#   --output DIR   where the log and the table go (default docs/measurements)
# A step has a time limit; one that fails does not stop the next. Exit code 1 when a check failed, 0 otherwise.
# With $LORAT_CUDA naming the simulated plug-in the whole script runs on no card at all, with tiny shapes: a test of the script.
set -u
cd "$(dirname "$0")/.."
root=$PWD

quick= dry= build=build output=docs/measurements
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=1 ;;
        --dry-run) dry=1 ;;
        --build) build=${2:?--build needs a folder}; shift ;;
        --output) output=${2:?--output needs a folder}; shift ;;
        --multi) echo "error: --multi: this build trains on one card, so there is nothing of two cards to check" >&2; exit 2 ;;
        --help | -h) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "error: $1: unknown, expected --quick, --dry-run, --build DIR or --output DIR" >&2; exit 2 ;;
    esac
    shift
done

# ---- where the programs are ----
if [ -x bin/lorat ] && [ -d lib/lorat/check ]; then
    lorat=$root/bin/lorat programs=$root/lib/lorat/check golden=$root/lib/lorat/check/test_golden data=$root/lib/lorat/check
    plugin=$root/lib/lorat/lorat_cuda.so
else
    case $build in /*) ;; *) build=$root/$build ;; esac
    lorat=$build/lorat programs=$build/tests/gpu golden=$build/tests/model/test_golden data=$root plugin=$build/lorat_cuda.so
    if [ -z "$dry" ] && ! { [ -x "$lorat" ] && [ -x "$golden" ] && [ -e "$programs/twins_sim.so" ]; }; then
        echo "building $build" >&2
        { [ -e "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -G Ninja; } >/dev/null && cmake --build "$build" --target lorat gpu_check >/dev/null ||
            { echo "error: $build: the check programs cannot be built, expected cmake, ninja and nvcc 12.8 or later. See sh scripts/setup-cuda.sh" >&2; exit 1; }
    fi
fi
export LORAT_CUDA="${LORAT_CUDA:-$plugin}"
[ -n "$dry" ] || [ -e "$LORAT_CUDA" ] || { echo "error: $LORAT_CUDA: not there, expected the CUDA plug-in. Build it with nvcc: sh scripts/setup-cuda.sh" >&2; exit 1; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

version=$([ -n "$dry" ] || "$lorat" version 2>&1)
simulated=
case $version in *simulated*) simulated=1 ;; esac
if [ -z "$dry$simulated" ] && ! nvidia-smi -L >/dev/null 2>&1; then
    echo "error: nvidia-smi: finds no NVIDIA card, expected one with its driver. Nothing was checked" >&2
    exit 1
fi
if [ -n "$simulated" ]; then
    card="simulated card"
else
    card=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0 2>/dev/null || echo card)
fi
slug=$(printf '%s' "$card" | sed 's/NVIDIA //; s/GeForce //' | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
[ -n "$dry" ] || { mkdir -p "$output" && output=$(cd "$output" && pwd); } || exit 1
log=$output/gpu-$slug-$(date +%F).log
table=$output/gpu-$slug-$(date +%F).md
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
    say "$name: $result"
    printf '| %s | %s | %d s |\n' "$name" "$result" "$(($(date +%s) - at))" >>"$checks"
}
not_run() { # NAME WHY
    if [ -n "$dry" ]; then printf '%s\n    not run: %s\n' "$1" "$2"; else say "$1: not run: $2"; fi
    printf '| %s | not run: %s | |\n' "$1" "$2" >>"$checks"
}

# ---- facts of the device ----
facts() {
    date
    uname -srm
    printf '%s\n' "$version"
    [ -n "$simulated" ] || nvidia-smi -q -i 0 -d POWER,CLOCK,MEMORY,TEMPERATURE,PERFORMANCE,COMPUTE,ECC
}
[ -n "$dry" ] || { facts >>"$log" 2>&1; say "$card"; }

# ---- checks ----
check "every wrapper against its twin" 60 "$programs/gpu_twins" "$programs/$([ -n "$simulated" ] && echo twins_sim.so || echo twins_card.so)" "$programs/twins_sim.so"

[ -n "$simulated" ] && ops="update" || ops="backend rows moves loss products update upload"
for op in $ops; do
    [ -n "$dry" ] || [ -x "$programs/gpu_ops_$op" ] || continue
    check "operations against the reference: $op" 120 "$programs/gpu_ops_$op"
done
[ -n "$simulated" ] && attentions="" || attentions="auto plain mma cudnn"
for attention in $attentions; do
    check "attention against the reference: $attention" 120 env LORAT_ATTENTION=$attention "$programs/gpu_ops_attention"
done

[ -n "$simulated" ] && models=tiny-qwen3 || models="tiny-llama tiny-llama3 tiny-qwen2 tiny-qwen3"
for model in $models; do
    check "golden model, F32 and BF16: $model" 120 "$golden" "$model" --device cuda
done
[ -n "$simulated" ] || check "golden model with the plain attention" 120 env LORAT_ATTENTION=plain "$golden" tiny-qwen3 --device cuda

repeat="the same bits three times, once beside a busy stream"
if [ -n "$simulated" ]; then
    check "$repeat: tiny" 120 "$programs/gpu_repeat" tiny --tokens 64 --bf16 --only _forward
else
    check "$repeat: tiny" 60 "$programs/gpu_repeat" tiny
    check "$repeat: qwen3-0.6b" 120 "$programs/gpu_repeat" qwen3-0.6b --tokens 4096
    check "$repeat: qwen3-8b" 180 "$programs/gpu_repeat" qwen3-8b --tokens 2048 --bf16
    # The head sizes that the fast kernels take: 64, 128.
    for attention in plain mma cudnn; do
        for shape in smollm2-135m qwen3-8b; do
            check "$repeat: attention $attention, $shape" 60 env LORAT_ATTENTION=$attention "$programs/gpu_repeat" $shape --tokens 4096 --bf16 --only attention
        done
    done
fi

# A job over a tiny model: resumed = uninterrupted, and twice the same bytes.
cat >"$tmp/job.yaml" <<END
name: gpu-check
model: {path: $data/tests/golden/tiny-qwen3}
data: {train: $tmp/data.h5, sequence_length: 64}
lora: {rank: 8, alpha: 16, dropout: 0.1}
train: {max_steps: 6, batch: 4, micro_batch: 2, learning_rate: 1.0e-3, warmup_steps: 2}
compute: {device: cuda}
checkpoint: {every: 2}
END
awk 'BEGIN { srand(7); for (i = 0; i < 40; i++) { printf "{\"tokens\": ["; n = 20 + int(rand() * 80); for (k = 0; k < n; k++) printf "%s%d", k ? ", " : "", 3 + int(rand() * 60);
     printf "], \"loss\": ["; for (k = 0; k < n; k++) printf "%s1", k ? ", " : ""; printf "]}\n" } }' >"$tmp/rows.jsonl"
[ -n "$dry" ] || "$lorat" data build --input "$tmp/rows.jsonl" -o "$tmp/data.h5" --vocab 64 >>"$log" 2>&1
(cd "$tmp" && mkdir -p work)
check "resumed = uninterrupted, byte for byte" 120 sh -c 'cd "$1/work" && "$2" verify resume "$1/job.yaml" --steps 6 --stop 3' - "$tmp" "$lorat"
check "two runs, the same bytes" 120 sh -c 'cd "$1/work" && "$2" train "$1/job.yaml" -q --set name=one && "$2" train "$1/job.yaml" -q --set name=two &&
    cmp runs/one/adapter/adapter_model.safetensors runs/two/adapter/adapter_model.safetensors' - "$tmp" "$lorat"

for tool in memcheck racecheck; do
    if [ -n "$simulated" ]; then
        not_run "compute-sanitizer $tool" "the card is simulated"
    elif [ -z "$dry" ] && ! command -v compute-sanitizer >/dev/null; then
        not_run "compute-sanitizer $tool" "compute-sanitizer is not installed"
    else
        for op in rows attention loss update; do
            check "compute-sanitizer $tool: $op" 60 compute-sanitizer --tool $tool --report-api-errors no --error-exitcode 1 "$programs/gpu_ops_$op"
        done
    fi
done

# ---- benchmarks ----
field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p" "$tmp/out" | head -n 1; }
row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3" >>"$measured"; } # WHAT EXPECTED MEASURED
# Expected, by card: the goals of an H200; on a 3090 an estimate; elsewhere the ceiling that arithmetic gives, or nothing.
expected() { # SHAPE RECOMPUTE
    case "$slug $1 $2" in
        "h200 qwen3-0.6b full") echo "80,000 tok/s" ;;
        "h200 qwen3-1.7b full") echo "42,000 tok/s" ;;
        "h200 qwen3-4b full") echo "21,000 tok/s" ;;
        "h200 qwen3-8b full") echo "13,500 tok/s; 75 % of the products' rate" ;;
        "h200 qwen3-8b none") echo "18,000 tok/s" ;;
        "h200 llama3-8b full" | "h200 llama3-8b 24GiB") echo "peak at most 22 GiB; ceiling 17,000 tok/s" ;;
        "rtx-3090 qwen3-8b full" | "rtx-3090 llama3-8b 24GiB") echo "1,200-1,300 tok/s (estimate; ceiling 1,519)" ;;
        "rtx-4090 llama3-8b 24GiB") echo "ceiling 3,535 tok/s" ;;
        *) echo "-" ;;
    esac
}
bench_step() { # NAME EXPECTED LIMIT OPTION...
    name=$1 wanted=$2 limit=$3
    shift 3
    if [ -n "$dry" ]; then
        printf '%s (expected %s)\n    (at most %s s) %s bench step --json %s\n' "$name" "$wanted" "$limit" "$lorat" "$*"
        return
    fi
    step "$limit" "$lorat" bench step --json --device cuda "$@"
    rc=$?
    if [ $rc = 0 ]; then
        got=$(printf '%.0f tok/s, %.1f TFLOP/s, %.0f %% of the products, %.2f GiB planned, %.2f GiB by the driver' "$(field tok_s)" "$(field tflop_s)" \
            "$(awk "BEGIN { print 100 * $(field gemm_share) }")" "$(awk "BEGIN { print $(field planned_bytes) / 2^30 }")" "$(awk "BEGIN { print $(field device_bytes) / 2^30 }")")
    elif [ $rc = 7 ]; then
        got="does not fit"
    else
        got="FAILED (exit code $rc)" failed=1
    fi
    say "$name: $got"
    row "$name" "$wanted" "$got"
}
bench_rows() { # KIND LIMIT OPTION...: the table goes to the log
    kind=$1 limit=$2
    shift 2
    if [ -n "$dry" ]; then printf 'bench %s\n    (at most %s s) %s bench %s %s\n' "$kind" "$limit" "$lorat" "$kind" "$*"; return; fi
    step "$limit" "$lorat" bench "$kind" --json --device cuda "$@" || { failed=1; row "bench $kind" "-" "FAILED (exit code $rc)"; return; }
    cp "$tmp/out" "$tmp/$kind.json"
}
if [ -n "$quick" ]; then
    not_run "benchmarks" "--quick"
elif [ -n "$simulated" ]; then
    small="--shape tiny --seq 64 --micro-batch 1"
    bench_rows gemm 120 $small --only qkv --seconds 0
    bench_rows ops 120 $small --only rms --seconds 0
    bench_step "tiny, full recompute" "-" 120 $small --accumulation 2 --steps 1 --seconds 0 --recompute full
    bench_step "tiny, does not fit" "-" 120 $small --memory-limit 1MiB --steps 1
else
    bench_rows gemm 120 --shape qwen3-8b
    bench_rows ops 120 --shape qwen3-8b
    for shape in qwen3-0.6b qwen3-1.7b qwen3-4b qwen3-8b; do
        bench_step "$shape, full recompute, 4 x 2 x 2048" "$(expected $shape full)" 180 --shape $shape --recompute full --steps 5
    done
    bench_step "qwen3-8b, no recompute, 4 x 2 x 2048" "$(expected qwen3-8b none)" 180 --shape qwen3-8b --recompute none --steps 5
    bench_step "llama3-8b within 24 GiB, 2 x 4 x 2048" "$(expected llama3-8b 24GiB)" 240 --shape llama3-8b --memory-limit 24GiB --micro-batch 4 --accumulation 2 --steps 5
fi
[ ! -e "$tmp/gemm.json" ] || row "best product" "-" "$(sed -n 's/.*"tflop_s": \([0-9.e+-]*\).*/\1/p' "$tmp/gemm.json" | sort -g | tail -n 1) TFLOP/s"
if [ -e "$tmp/ops.json" ]; then
    row "a copy on the device" "-" "$(sed -n '/device copy/s/.*"gb_s": \([0-9.e+-]*\).*/\1/p' "$tmp/ops.json") GB/s"
    # Small ones are bound by the launch, not by memory.
    row "slowest operation of over 4 MB against a copy" "80 %" "$(sed -n 's/.*"name": "\([a-z_]*\)".*"bytes": \([0-9.e+-]*\).*"copy_share": \([0-9.e+-]*\).*/\3 \2 \1/p' "$tmp/ops.json" |
        awk '$2 > 4e6 && ($1 + 0 < least || least == "") { least = $1 + 0; name = $3 } END { if (name) printf "%.0f %% (%s)", 100 * least, name; else print "none" }')"
fi

# ---- against transformers and PEFT ----
python=${LORAT_PYTHON:-python3}
if [ -n "$quick$simulated" ]; then
    not_run "PEFT in the same run" "$([ -n "$quick" ] && echo --quick || echo "the card is simulated")"
elif [ -z "$dry" ] && ! "$python" -c 'import torch, transformers, peft; assert torch.cuda.is_available()' >/dev/null 2>&1; then
    not_run "PEFT in the same run" "$python has no torch with CUDA, transformers and peft (LORAT_PYTHON names another)"
else
    for shape in qwen3-8b qwen3-0.6b; do
        if [ -n "$dry" ]; then
            echo "PEFT, $shape: $python tests/bench/compare_peft_cuda.py $lorat --shape $shape"
            continue
        fi
        step 240 "$python" "$data/tests/bench/compare_peft_cuda.py" "$lorat" --shape $shape --json || { row "against PEFT, $shape" "-" "FAILED (exit code $rc)"; failed=1; continue; }
        row "against PEFT, $shape" "$([ "$slug" = h200 ] && { [ $shape = qwen3-8b ] && echo 1.8x || echo 3x; } || echo -)" \
            "$(field ratio)x: $(field lorat_tok_s) against $(field peft_tok_s) tok/s ($(field peft_setting))"
    done
fi
[ -z "$dry" ] || exit 0

# ---- the table ----
[ -n "$simulated" ] || nvidia-smi -q -i 0 -d POWER,CLOCK,TEMPERATURE,PERFORMANCE >>"$log" 2>&1
{
    printf '# %s, %s\n\n' "$card" "$(date +%F)"
    printf '`sh scripts/gpu-check.sh%s`, %d s. Everything that was said: %s.\n\n' "${quick:+ --quick}" "$(($(date +%s) - began))" "$(basename "$log")"
    [ -z "$simulated" ] || printf 'The card is simulated: nothing here says how fast anything is.\n\n'
    printf '```\n%s\n```\n\n' "$version"
    [ -n "$simulated" ] || printf '%s\n\n' "$(nvidia-smi -i 0 --query-gpu=name,driver_version,power.limit,clocks.max.sm,clocks.max.mem,ecc.mode.current --format=csv,noheader)"
    printf '| check | result | time |\n| --- | --- | --- |\n'
    cat "$checks"
    if [ -s "$measured" ]; then
        printf '\n| measurement | expected | measured |\n| --- | --- | --- |\n'
        cat "$measured"
    fi
} >"$table"
say "$table"
exit $failed
