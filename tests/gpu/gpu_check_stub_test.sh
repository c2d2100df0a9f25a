#!/bin/sh
# gpu_check_stub_test.sh - what scripts/gpu-check.sh makes of the answers of real cards, one and two, here given by stand-ins for lorat, the check
# programs and nvidia-smi. A good card and a bridged pair pass; an operation that is wrong, other bits, a way that was not taken, a wrong sum, a
# failing job and one that does not fit are each told of, and the exit code says so. Nothing is computed. Run from the root.
set -u
failures=0
bad() {
    echo "failed: $*" >&2
    failures=$((failures + 1))
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/bin" "$tmp/build/tests/gpu" "$tmp/build/tests/model"
stand_in() { # PATH: its text from stdin
    { echo '#!/bin/sh'; cat; } >"$1"
    chmod +x "$1"
}
stand_in "$tmp/bin/nvidia-smi" <<'END'
case "$*" in *-L*) exit 0 ;; *query-gpu=memory.total*) echo 24576 ;; *query-gpu=name,*) echo "all of it" ;; *query-gpu=name*) echo "NVIDIA GeForce RTX 3090" ;; *) echo "facts of the card" ;; esac
END
for program in gpu_nccl gpu_twins gpu_repeat gpu_ops_backend gpu_ops_rows gpu_ops_moves gpu_ops_loss gpu_ops_products gpu_ops_update gpu_ops_upload gpu_ops_attention; do
    stand_in "$tmp/build/tests/gpu/$program" <<'END'
[ "${FAKE_WRONG:-}" != "${0##*/}" ] || { echo "wrong"; exit 1; }
[ "${FAKE_SKIPS:-}" != "${LORAT_ATTENTION:-none}" ] || { echo "skipped: cuDNN is not there"; exit 77; }
END
done
stand_in "$tmp/bin/compute-sanitizer" </dev/null
stand_in "$tmp/bin/no-python" <<'END'
exit 1
END
stand_in "$tmp/build/tests/gpu/gpu_model" <<'END'
[ "${FAKE_MODEL:-}" != no ] && mkdir -p "$2"
END
stand_in "$tmp/build/tests/model/test_golden" </dev/null
: >"$tmp/build/tests/gpu/twins_sim.so"
# lorat: options that matter are found by their text. $FAKE_*: what goes wrong.
stand_in "$tmp/build/lorat" <<'END'
all="$*"
value() { printf '%s\n' "$all" | sed -n "s/.*$1=\([^ ]*\).*/\1/p"; }
way() { # LINK
    case "$1:${FAKE_WAY:-}" in
        nvlink:) echo nvlink ;;
        pcie:) echo "pcie, through host memory" ;;
        auto:*) echo nvlink ;;
        *) echo "$FAKE_WAY" ;;
    esac
}
case "$1 $2" in
    version*) printf 'lorat stand-in\ncard 0: RTX 3090\ncard 1: RTX 3090\n' ;;
    doctor*) echo "Training can start." ;;
    "bench comm")
        link=${all##*--interconnect }
        link=${link%% *}
        if [ "$link" = nvlink ] && [ -n "${FAKE_BRIDGE:-}" ]; then
            echo "lorat: error: no bridge" >&2
            exit 7
        fi
        for name in all-reduce all-gather; do echo "{\"bench\": \"comm\", \"name\": \"$name\", \"bytes\": 1, \"bus_gb_s\": 42.5, \"wrong\": 0}"; done
        echo "{\"bench\": \"comm\", \"interconnect\": \"$(way "$link")\"}"
        [ "${FAKE_SUM:-}" != wrong ] || exit 9
        ;;
    "bench gemm") echo '{"bench": "gemm", "name": "qkv forward", "tflop_s": 61.5}' ;;
    "bench ops")
        echo '{"bench": "ops", "name": "device copy", "bytes": 1e8, "gb_s": 850.5}'
        echo '{"bench": "ops", "name": "rmsnorm_forward", "bytes": 1e8, "copy_share": 0.91}'
        echo '{"bench": "ops", "name": "swiglu_forward", "bytes": 2e8, "copy_share": 0.72}'
        echo '{"bench": "ops", "name": "weight_sum", "bytes": 1e4, "copy_share": 0.01}'
        ;;
    "bench step")
        case $all in *qwen3-8b*) [ -z "${FAKE_FULL:-}" ] || exit 7 ;; esac
        loss=12.5
        case $all in *"--placement host"*) loss=${FAKE_LOSS:-12.5} copy=', "copy_ms": 190.5' ms=204 ;; *) copy= ms=200.5 ;; esac
        echo "{\"bench\": \"step\", \"ms\": $ms, \"tok_s\": 1234.4, \"tflop_s\": 50, \"gemm_share\": 0.76, \"planned_bytes\": 1073741824, \"device_bytes\": 1073741824$copy, \"loss\": $loss}"
        ;;
    "verify resume" | "data build") ;;
    train*)
        name=$(value name)
        [ -z "${FAKE_LOG:-}" ] || echo "$all" >>"$FAKE_LOG"
        [ "${FAKE_TRAIN:-}" != "$name" ] || exit 8
        link=$(value compute.interconnect)
        case $all in *-nvlink.yaml*) link=nvlink ;; *-pcie.yaml*) link=${link:-pcie} ;; esac
        mkdir -p "runs/$name/adapter" "runs/$name/checkpoints/step-00000006"
        bits=same
        [ "${FAKE_BITS:-}" != "$name" ] || bits=other
        for f in adapter/adapter_model checkpoints/step-00000006/adapter_model checkpoints/step-00000006/optimizer; do echo $bits >"runs/$name/$f.safetensors"; done
        [ "${FAKE_FULL:-}" != "$name" ] || { echo "lorat: error: RTX 3090, 8.6: the job needs 25.0 GiB, expected less" >&2; exit 7; }
        echo "{\"name\": \"$name\", \"interconnect\": \"$(way "$link")\"}" >"runs/$name/summary.json"
        echo "preflight 2 ranks: fine"
        ;;
    "compare --json") echo "{\"label\": \"x\", \"tok_s\": 1234.5, \"tok_s_p10\": 1}" ;;
    compare*) printf 'b against a\n  %s\n  Speed: no difference.\n' "${FAKE_COMPARE:-Same bits: all.}" ;;
esac
END
# verdict CODE TEXT NAME=VALUE...: the table has the text and the script leaves with the code. $option: of the script.
option= table=gpu-rtx-3090
verdict() {
    code=$1 text=$2
    shift 2
    rm -rf "$tmp/out"
    env "$@" PATH="$tmp/bin:$PATH" LORAT_CUDA="$tmp/build/lorat" LORAT_PYTHON="$tmp/bin/no-python" sh scripts/gpu-check.sh $option --build "$tmp/build" --output "$tmp/out" >"$tmp/said" 2>&1
    got=$?
    [ $got = "$code" ] || { bad "$*: exit code $got, expected $code"; tail -n 5 "$tmp/said" >&2; }
    grep -qF -e "$text" "$tmp"/out/$table-*.md || { bad "$*: the table has no \"$text\""; cat "$tmp"/out/*.md >&2; }
}
# One card.
verdict 0 "| qwen3-8b, full recompute, 4 x 2 x 2048 | 1,200-1,300 tok/s (estimate; ceiling 1,519) | 1234 tok/s, 50.0 TFLOP/s, 76 % of the products" A=1
for text in "qwen3-4b, base in host memory, 16384 tokens a pass | at most 1.05 x max(computing, copying) | 1.017 x: step 204.0 ms, computing 200.5, copying 190.5 |" \
    "best product | - | 61.5 TFLOP/s" "a copy on the device | - | 850.5 GB/s" "against a copy | 80 % | 72 % (swiglu_forward)" "racecheck: attention | ok" "NCCL with one rank: sums and gathers | ok" \
    "PEFT in the same run | not run"; do
    grep -qF -e "$text" "$tmp"/out/*.md || bad "the table has no \"$text\""
done
verdict 1 "reference: products | FAILED (exit code 1)" FAKE_WRONG=gpu_ops_products
verdict 0 "attention against the reference: cudnn | not run: cuDNN is not there" FAKE_SKIPS=cudnn
verdict 0 "qwen3-8b, no recompute, 4 x 2 x 2048 | - | does not fit" FAKE_FULL=1
verdict 1 "FAILED: other bits than resident" FAKE_LOSS=12.6
option=--quick
verdict 0 "benchmarks | not run: --quick" A=1

# Two.
option=--multi table=gpu-2x-rtx-3090
verdict 0 "| 8B data parallel, two cards against one | 98 % or more | 50.0 %: 1234 tok/s on one, 1234 on two (nvlink) |" FAKE_LOG="$tmp/trained"
# Held against one another: the same rows a pass and the same recomputation, named; and half of the rows a step on one card.
for named in train.micro_batch=1 compute.recompute=none; do
    [ "$(grep -e 'name=8b-one ' -e 'name=8b-two ' "$tmp/trained" | grep -c -e "--set $named ")" = 2 ] || bad "8b-one and 8b-two: not both with $named"
done
batch() { sed -n "s/.*name=$1 .*--set train.batch=\([0-9]*\).*/\1/p" "$tmp/trained"; }
[ "$(($(batch 8b-one) * 2))" = "$(batch 8b-two)" ] || bad "8b-two: a batch of $(batch 8b-two), expected twice the $(batch 8b-one) of 8b-one"
for text in "14B sharded, large micro-batch, PCIe against NVLink | no difference (by the plan) | no difference." \
    "bench comm, pcie, all-gather of the largest size | 8 to 11 GB/s | 42.5 GB/s on the bus (pcie, through host memory)" \
    "train 8b-nvlink: the bytes went the way that was asked for | ok (nvlink)" "bytes: sharded-nvlink | ok"; do
    grep -qF -e "$text" "$tmp"/out/*.md || bad "the table has no \"$text\""
done
verdict 0 "14B sharded, small micro-batch, nvlink | not run: no bridge that can be used" FAKE_BRIDGE=none
verdict 0 "bench comm, nvlink | not run: no bridge" FAKE_BRIDGE=none
verdict 1 "FAILED: asked for nvlink, went pcie, peer-to-peer" "FAKE_WAY=pcie, peer-to-peer"
verdict 1 "FAILED: asked for pcie, went nvlink" FAKE_WAY=nvlink
verdict 0 "not run: the way is not known" FAKE_WAY=unknown
verdict 1 "bytes: sharded-pcie | FAILED: one/adapter" FAKE_BITS=sharded-pcie
verdict 1 "bench comm, auto | FAILED (exit code 9)" FAKE_SUM=wrong
verdict 1 "train 14b-large-pcie | FAILED (exit code 8)" FAKE_TRAIN=14b-large-pcie
verdict 0 "train 8b-one | not run: RTX 3090, 8.6: the job needs 25.0 GiB" FAKE_FULL=8b-one
verdict 1 "PCIe against NVLink: the same bits | FAILED: Other bits" "FAKE_COMPARE=Other bits: from step 3."
[ -e models/Llama-3.1-8B-Instruct ] || verdict 1 "two cards against one | not run: a model with random weights could not be made" FAKE_MODEL=no
[ -z "$(ls -d models/.gpu-check-* 2>/dev/null)" ] || bad "models with random weights were left behind"
[ $failures = 0 ]
