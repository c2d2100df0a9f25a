#!/bin/sh
# `lorat plan --json` parses, and says what the text says. Usage: check_plan_json.sh ROOT LORAT. Exit code 77 without python3.
set -u
root=$(cd "$1" && pwd) || exit 2
lorat=$(realpath "$2") || exit 2
command -v python3 > /dev/null || {
    echo "skipped: python3 reads the JSON, and is not there"
    exit 77
}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$root" || exit 2
bad=0

# $1: shape of the model; $2: words behind `lorat plan`
compare() {
    # shellcheck disable=SC2086 # words
    "$lorat" plan $2 --set "model.path=tests/golden/shapes/$1" > "$work/text" 2> "$work/err" &&
        "$lorat" plan $2 --set "model.path=tests/golden/shapes/$1" --json > "$work/json" 2>> "$work/err" &&
        python3 -m json.tool "$work/json" > /dev/null &&
        python3 tests/cli/compare_plan.py "$work/text" "$work/json" && return
    echo "lorat plan $2:"
    cat "$work/err"
    bad=1
}

compare Llama-3.1-8B "configs/llama8b.yaml --on 3090"
compare Llama-3.1-8B "configs/llama8b.yaml --on 3090 --set model.placement=host"
compare Llama-3.1-8B "configs/llama8b-2x3090-pcie.yaml --on 2x3090"
compare Qwen3-14B "configs/qwen3-14b-2x3090-nvlink.yaml --on 2x3090"
compare Qwen3-14B "configs/qwen3-14b-2x3090-pcie.yaml --on 4x3090"
compare Qwen3-8B "configs/qwen3-8b.yaml --on 2x4500-ada"
compare SmolLM2-135M "configs/quickstart.yaml --set compute.device=cpu --set compute.memory_limit=3GiB"
exit $bad
