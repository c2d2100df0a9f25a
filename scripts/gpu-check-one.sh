# gpu-check-one.sh - the part of gpu-check.sh for one card: checks, then benchmarks, then PEFT. Sourced; the helpers are its caller's.

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

[ -n "$simulated" ] && models=tiny-qwen3 || models="tiny-llama tiny-llama3 tiny-qwen2 tiny-qwen3 tiny-llama-q64 tiny-qwen3-q128"
for model in $models; do
    check "golden model, F32 and BF16: $model" 120 "$golden" "$model" --device cuda
done
[ -n "$simulated" ] || check "golden model with the plain attention" 120 env LORAT_ATTENTION=plain "$golden" tiny-qwen3-q128 --device cuda

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

tiny_job
# Resumed = uninterrupted, and twice the same bytes.
check "resumed = uninterrupted, byte for byte" 120 sh -c 'cd "$1/work" && "$2" verify resume "$1/job.yaml" --steps 6 --stop 3' - "$tmp" "$lorat"
check "two runs, the same bytes" 120 sh -c 'cd "$1/work" && "$2" train "$1/job.yaml" -q --set name=one && "$2" train "$1/job.yaml" -q --set name=two &&
    cmp runs/one/adapter/adapter_model.safetensors runs/two/adapter/adapter_model.safetensors' - "$tmp" "$lorat"

check "NCCL with one rank: sums and gathers" 120 "$programs/gpu_nccl" 1

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
# The base in host memory, MICRO_BATCH rows of SEQ tokens a pass: a step should take what the slower of computing and copying takes.
# Computing by itself: the same step with a resident base. Copying by itself: the walk over the blocks without the computation.
host_step() { # SHAPE SEQ MICRO_BATCH [OPTIONS]
    name="$1, base in host memory, $(($2 * $3)) tokens a pass"
    options="--shape $1 --seq $2 --micro-batch $3 --recompute full ${4:-}"
    if [ -n "$dry" ]; then
        printf '%s (expected at most 1.05 x max(computing, copying))\n' "$name"
        for place in resident host; do printf '    (at most 300 s) %s bench step --json %s --placement %s\n' "$lorat" "$options" $place; done
        return
    fi
    got=
    for place in resident host; do
        if step 300 "$lorat" bench step --json --device cuda $options --placement $place; then
            if [ $place = resident ]; then computing=$(field ms) loss=$(field loss); fi
        elif [ $rc = 7 ]; then
            got="does not fit, $place"
            break
        else
            got="FAILED, $place (exit code $rc)" failed=1
            break
        fi
    done
    if [ -z "$got" ]; then
        got=$(awk -v step="$(field ms)" -v computing="$computing" -v copying="$(field copy_ms)" 'BEGIN {
            printf "%.3f x: step %.1f ms, computing %.1f, copying %.1f", step / (computing > copying ? computing : copying), step, computing, copying }')
        [ "$(field loss)" = "$loss" ] || { got="$got; FAILED: other bits than resident" failed=1; }
    fi
    say "$name: $got"
    row "$name" "at most 1.05 x max(computing, copying)" "$got"
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
    host_step tiny 64 1 "--accumulation 2 --steps 1 --seconds 0"
else
    bench_rows gemm 120 --shape qwen3-8b
    bench_rows ops 120 --shape qwen3-8b
    for shape in qwen3-0.6b qwen3-1.7b qwen3-4b qwen3-8b; do
        bench_step "$shape, full recompute, 4 x 2 x 2048" "$(expected $shape full)" 180 --shape $shape --recompute full --steps 5
    done
    bench_step "qwen3-8b, no recompute, 4 x 2 x 2048" "$(expected qwen3-8b none)" 180 --shape qwen3-8b --recompute none --steps 5
    # Resident for comparison: what 24 GB hold at 16,384 tokens a pass is the 4B.
    big=qwen3-4b
    [ -n "$dry" ] || [ "$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits -i 0)" -lt 40000 ] || big=qwen3-8b
    for pass in "1024 1" "2048 2" "2048 8"; do
        host_step $big $pass "--accumulation 2 --steps 5"
    done
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
        if ! step 240 "$python" "$data/tests/bench/compare_peft_cuda.py" "$lorat" --shape $shape --json; then
            row "against PEFT, $shape" "-" "FAILED (exit code $rc)"
            failed=1
            continue
        fi
        row "against PEFT, $shape" "$([ "$slug" = h200 ] && { [ $shape = qwen3-8b ] && echo 1.8x || echo 3x; } || echo -)" \
            "$(field ratio)x: $(field lorat_tok_s) against $(field peft_tok_s) tok/s ($(field peft_setting))"
    done
fi
[ -z "$dry" ] || exit 0

