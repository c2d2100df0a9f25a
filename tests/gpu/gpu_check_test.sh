#!/bin/sh
# gpu_check_test.sh - what scripts/gpu-check.sh and kernel-lab.sh say without a card: a dry run lists every part and writes
# nothing, and what cannot be done is refused with a sentence. Run from the root.
set -u
failures=0
bad() {
    echo "failed: $*" >&2
    failures=$((failures + 1))
}

before=$(ls docs/measurements)
plan=$(sh scripts/gpu-check.sh --dry-run) || bad "the dry run left with $?"
[ "$before" = "$(ls docs/measurements)" ] || bad "the dry run wrote into docs/measurements"
for part in gpu_twins gpu_ops_rows gpu_ops_products "LORAT_ATTENTION=mma" "LORAT_ATTENTION=cudnn" "test_golden tiny-llama3 --device cuda" \
    "gpu_repeat qwen3-8b" "verify resume" "two runs, the same bytes" "compute-sanitizer --tool racecheck" "compute-sanitizer --tool memcheck" \
    "gpu_nccl 1" "--shape qwen3-4b --seq 2048 --micro-batch 8 --recompute full --accumulation 2 --steps 5 --placement host" \
    "--shape qwen3-0.6b --recompute full" "--shape qwen3-8b --recompute none" "--memory-limit 24GiB --micro-batch 4" "compare_peft_cuda.py"; do
    case $plan in *"$part"*) ;; *) bad "the dry run does not name $part" ;; esac
done
plan=$(sh scripts/gpu-check.sh --multi --dry-run) || bad "the dry run for two cards left with $?"
for part in "lorat doctor" "gpu_nccl 2" "--interconnect nvlink" "--interconnect pcie" "name=sharded-nvlink" "name=host" "name=8b-one" "gpu_model qwen3-14b" \
    "name=14b-small-nvlink" "name=14b-large-pcie" "compare runs/14b-large-nvlink runs/14b-large-pcie"; do
    case $plan in *"$part"*) ;; *) bad "the dry run for two cards does not name $part" ;; esac
done
[ "$before" = "$(ls docs/measurements)" ] || bad "the dry run for two cards wrote into docs/measurements"
case $(sh scripts/gpu-check.sh --dry-run --quick) in *"bench step"*) bad "--quick still runs benchmarks" ;; esac

refused() { # CODE WORDS COMMAND...
    code=$1 words=$2
    shift 2
    said=$("$@" 2>&1)
    got=$?
    [ $got = "$code" ] || bad "$*: exit code $got, expected $code"
    case $said in *"$words"*) ;; *) bad "$*: \"$said\", expected \"$words\"" ;; esac
}
refused 2 "unknown, expected --multi" sh scripts/gpu-check.sh --fast
# Without a card: said at once, not behind minutes of building.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
printf '#!/bin/sh\nexit 9\n' >"$tmp/nvidia-smi"
chmod +x "$tmp/nvidia-smi"
refused 1 "finds no NVIDIA card" env -u LORAT_CUDA PATH="$tmp:$PATH" sh scripts/gpu-check.sh --multi --build "$tmp/build" --output "$tmp/out"
[ ! -e "$tmp/build" ] && [ ! -e "$tmp/out" ] || bad "it built before it looked for a card"
refused 1 "expected one of: adamw_update" sh scripts/kernel-lab.sh
refused 1 "there is no kernels/cuda/norm*.cu" sh scripts/kernel-lab.sh norm
[ $failures = 0 ]
