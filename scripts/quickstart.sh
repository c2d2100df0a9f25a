#!/bin/sh
# quickstart.sh - from a bare Debian or Ubuntu to a trained adapter, and the proof that it does what it was trained to do.
# Run again, it sets nothing up again: a run that was cut off goes on from its last checkpoint, one that is complete is trained anew.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

JOB=configs/quickstart.yaml
SAMPLES=datasets/samples/quickstart.jsonl
PROMPTS=datasets/samples/held-out.txt
DATA=data/quickstart.h5
RUN=runs/quickstart

setup_compiler
# A card wants NVIDIA's toolkit. Without it, or when the plug-in does not build, lorat itself says below that the card cannot be used.
card=
if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    card=1
    say "an NVIDIA card is here: sh scripts/setup-cuda.sh"
    sh scripts/setup-cuda.sh || say "the CUDA toolkit is not complete; sh scripts/setup-cuda.sh goes on where it was"
fi
say "building lorat"
configure build -DCMAKE_BUILD_TYPE=Release -DLORAT_SANITIZE=OFF
build build lorat
if [ -n "$card" ]; then
    say "building the CUDA plug-in"
    loudly cmake --build build --target lorat_cuda -j "$(nproc)" || say "the CUDA plug-in does not build"
fi
setup_model

if [ ! -e "$DATA" ] || [ -n "$(find "$SAMPLES" "$MODEL" -newer "$DATA")" ]; then
    say "building the dataset"
    mkdir -p data
    build/lorat data build --model "$MODEL" --input "$SAMPLES" --validation 5% -o "$DATA" --replace
fi

# A card that is present but cannot be used is an error of the program, and here a reason to go on without it.
set --
device=auto
rc=0
build/lorat plan "$JOB" >"$tmp/plan" 2>&1 || rc=$?
if [ $rc = 7 ] && { command -v nvidia-smi >/dev/null || [ -e /dev/nvidiactl ] || [ -e /dev/nvidia0 ] || [ -e /proc/driver/nvidia/version ]; }; then
    say "an NVIDIA card is present, and cannot be used:"
    cat "$tmp/plan"
    nvidia-smi >/dev/null 2>&1 ||
        echo "nvidia-smi does not work here either: install the driver (Debian: apt-get install nvidia-driver; Ubuntu: ubuntu-drivers install)."
    say "going on on the CPU"
    device=cpu
    set -- --set compute.device=cpu
elif [ $rc != 0 ]; then
    cat "$tmp/plan" >&2
    exit $rc
fi

answers() { # FILE OPTION...
    out=$1
    shift
    [ "$device" = auto ] || set -- --device "$device" "$@"
    build/lorat generate --model "$MODEL" --prompts "$PROMPTS" --max-new 64 --json "$@" >"$out"
}

# The habit: the last line of the answer begins with "In short:".
count() { grep -Ec '\\nIn short: ([^\\]|\\")*", "ended": true}$' "$1" || true; }
show() { # FILE NUMBER
    sed -n "$2s/^.*\"answer\": \"\(.*\)\", \"ended\": .*\$/\1/p" "$1" | awk '{ gsub(/\\n/, "\n          "); gsub(/\\"/, "\""); print }'
}

say "asking the model $(grep -c . "$PROMPTS") questions that are not in the data"
answers "$tmp/before"

flag=--resume
if [ -e "$RUN" ] && build/lorat runs | grep -q '^quickstart .*done'; then
    flag=--fresh
fi
say "lorat train $JOB $flag${1:+ $*}"
trap : INT TERM HUP # lorat saves, and says with its exit code that it did
rc=0
build/lorat train "$JOB" "$flag" "$@" || rc=$?
trap 'exit 130' INT TERM HUP
if [ $rc = 75 ]; then
    echo "Stopped, and saved. sh scripts/quickstart.sh goes on from here."
    exit 75
fi
[ $rc = 0 ] || fail "lorat train ended with exit code $rc (lorat --help lists them)"

say "asking again, with the adapter"
answers "$tmp/after" --adapter "$RUN/adapter"

n=$(grep -c . "$tmp/after")
before=$(count "$tmp/before")
after=$(count "$tmp/after")
for i in 1 $((n / 2)) "$n"; do
    printf '\nquestion: %s\nbefore:   %s\nafter:    %s\n' "$(grep . "$PROMPTS" | sed -n "${i}p")" "$(show "$tmp/before" "$i")" "$(show "$tmp/after" "$i")"
done
printf '\nAnswers that end with a line "In short: ...": %d %% before, %d %% after training, of %d.\n' $((100 * before / n)) $((100 * after / n)) "$n"
[ "$n" -ge 30 ] && [ $((100 * before)) -le $((10 * n)) ] && [ $((100 * after)) -ge $((90 * n)) ] ||
    fail "expected at least 30 answers, at most 10 % before and at least 90 % after"

say "done"
cat <<END

adapter   $RUN/adapter
log       $RUN/metrics.jsonl, one line a step
try       build/lorat generate --model $MODEL --adapter $RUN/adapter --prompt "Why do cats sleep so much?"
END
