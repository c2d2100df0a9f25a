#!/bin/sh
# gpu_check_stub_test.sh - what scripts/gpu-check.sh --multi makes of the answers of two real cards, here given by stand-ins for lorat, the check
# programs and nvidia-smi: a bridged pair passes; other bits, a way that was not taken, a wrong sum and a failing job are each told of, and
# the exit code says so. Nothing is computed. Run from the root.
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
case "$*" in *-L*) exit 0 ;; *query-gpu=name*) echo "NVIDIA GeForce RTX 3090" ;; *) echo "facts of the card" ;; esac
END
stand_in "$tmp/build/tests/gpu/gpu_nccl" </dev/null
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
    "data build") ;;
    train*)
        name=$(value name)
        [ "${FAKE_TRAIN:-}" != "$name" ] || exit 8
        link=$(value compute.interconnect)
        case $all in *-nvlink.yaml*) link=nvlink ;; *-pcie.yaml*) link=${link:-pcie} ;; esac
        mkdir -p "runs/$name/adapter" "runs/$name/checkpoints/step-00000006"
        bits=same
        [ "${FAKE_BITS:-}" != "$name" ] || bits=other
        for f in adapter/adapter_model checkpoints/step-00000006/adapter_model checkpoints/step-00000006/optimizer; do echo $bits >"runs/$name/$f.safetensors"; done
        echo "{\"name\": \"$name\", \"interconnect\": \"$(way "$link")\"}" >"runs/$name/summary.json"
        echo "preflight 2 ranks: fine"
        ;;
    "compare --json") echo "{\"label\": \"x\", \"tok_s\": 1234.5, \"tok_s_p10\": 1}" ;;
    compare*) printf 'b against a\n  %s\n  Speed: no difference.\n' "${FAKE_COMPARE:-Same bits: all.}" ;;
esac
END
# verdict CODE TEXT NAME=VALUE...: the table has the text and the script leaves with the code.
verdict() {
    code=$1 text=$2
    shift 2
    rm -rf "$tmp/out"
    env "$@" PATH="$tmp/bin:$PATH" LORAT_CUDA="$tmp/build/lorat" sh scripts/gpu-check.sh --multi --build "$tmp/build" --output "$tmp/out" >"$tmp/said" 2>&1
    got=$?
    [ $got = "$code" ] || { bad "$*: exit code $got, expected $code"; tail -n 5 "$tmp/said" >&2; }
    grep -qF -e "$text" "$tmp"/out/gpu-2x-rtx-3090-*.md || { bad "$*: the table has no \"$text\""; cat "$tmp"/out/*.md >&2; }
}
verdict 0 "| 8B data parallel, two cards against one | 98 % or more | 50.0 %: 1234 tok/s on one, 1234 on two (nvlink) |" A=1
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
verdict 1 "PCIe against NVLink: the same bits | FAILED: Other bits" "FAKE_COMPARE=Other bits: from step 3."
[ -e models/Llama-3.1-8B-Instruct ] || verdict 1 "two cards against one | not run: a model with random weights could not be made" FAKE_MODEL=no
[ -z "$(ls -d models/.gpu-check-* 2>/dev/null)" ] || bad "models with random weights were left behind"
[ $failures = 0 ]
