#!/bin/sh
# kernel-lab.sh NAME - one kernel of kernels/cuda under the lens, for learning and for changing it: builds it, checks it on the simulated
# card, shows what the compiler made of it for an RTX 3090 where nvcc is there, and times it where a card is there.
#   sh scripts/kernel-lab.sh rmsnorm
#   --shape NAME   sizes of the benchmark (default qwen3-8b)
#   --build DIR    build folder (default build)
set -eu
cd "$(dirname "$0")/.."

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
name= shape=qwen3-8b build=build
while [ $# -gt 0 ]; do
    case $1 in
        --shape) shape=${2:?--shape needs a name}; shift ;;
        --build) build=${2:?--build needs a folder}; shift ;;
        --help | -h) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) fail "$1: unknown, expected NAME, --shape NAME or --build DIR" ;;
        *) [ -z "$name" ] || fail "$1: a second name, expected one"; name=$1 ;;
    esac
    shift
done
kernels() { grep -lE '^void cuda_[a-z0-9_]+\(struct ops|__global__' kernels/cuda/*.cu | sed 's|.*/||; s|\.cu$||' | tr '\n' ' '; }
[ -n "$name" ] || fail "no name, expected one of: $(kernels)"
sources=$(ls kernels/cuda/"$name"*.cu 2>/dev/null || true)
[ -n "$sources" ] || fail "$name: there is no kernels/cuda/$name*.cu, expected one of: $(kernels)"

# The file of tests/ops that calls the operation. rows.cu holds gather_rows and scatter_rows.
case $name in
    rows*) call=gather_rows ;;
    attention*) call=attention_forward ;;
    gemm* | linear* | lt*) call=linear_forward ;;
    *) call=$name ;;
esac
tests=$(grep -lE -- "->$call" tests/ops/test_*.c | sed 's|.*/test_\(.*\)\.c|\1|')
# The backend's own test and others that only use it in passing come last.
for preferred in rows moves loss update products attention; do
    if printf '%s\n' "$tests" | grep -qx $preferred; then tests=$preferred; break; fi
done
test=$(printf '%s\n' "$tests" | head -n 1)
[ -n "$test" ] || fail "$name: no file of tests/ops calls $call, expected one"

began=$(date +%s)
say() { printf '\n[%2d s] %s\n' "$(($(date +%s) - began))" "$*"; }

say "building $sources for the simulated card, and tests/ops/test_$test.c"
[ -e "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -G Ninja >/dev/null
cmake --build "$build" --target "test_sim_ops_$test" >"$build/lab.log" 2>&1 || { grep -E 'error|warning|FAILED' "$build/lab.log" | head -n 30; fail "the build failed; all of it: $build/lab.log"; }

say "checking against the reference: test_sim_ops_$test"
binary=$(find "$build/tests" -name "test_sim_ops_$test" -type f | head -n 1)
if "$binary"; then echo "right, in both types"; else fail "the simulated card found it wrong (above)"; fi

nvcc=$(command -v nvcc || ls .cuda/bin/nvcc /usr/local/cuda/bin/nvcc 2>/dev/null | head -n 1 || true)
if [ -n "$nvcc" ]; then
    for source in $sources; do
        say "$source for compute capability 8.6: registers, shared memory, spills"
        "$nvcc" -std=c++17 -O3 -arch=sm_86 -I. -D_GNU_SOURCE -DLORAT_VERSION='"lab"' -Xptxas -v -c "$source" -o /dev/null 2>&1 | c++filt |
            awk '/Compiling entry function/ { sub(/.*entry function ./, ""); sub(/. for .sm_86.*/, ""); name = $0 }
                 /bytes stack frame/ { spills = $0; sub(/^ */, "", spills) }
                 /Used [0-9]+ registers/ { sub(/.*: /, ""); printf "  %s\n      %s; %s\n", name, $0, spills }
                 /error/ { print }'
    done
else
    say "registers and spills: not shown, nvcc is not installed (sh scripts/setup-cuda.sh)"
fi

if nvidia-smi -L >/dev/null 2>&1 && grep -q '^build lorat_cuda.so:' "$build/build.ninja"; then
    say "building for this card"
    cmake --build "$build" --target lorat lorat_cuda >"$build/lab.log" 2>&1 || { tail -n 30 "$build/lab.log"; fail "the build failed"; }
    say "lorat bench ops --shape $shape --only $name"
    case $name in
        gemm* | linear* | lt*) "$build/lorat" bench gemm --shape "$shape" --device cuda ;;
        rows*) "$build/lorat" bench ops --shape "$shape" --device cuda --only er_rows ;;
        attention*) "$build/lorat" bench ops --shape "$shape" --device cuda --only attention ;;
        *) "$build/lorat" bench ops --shape "$shape" --device cuda --only "$name" ;;
    esac
else
    say "benchmark: not run, there is no NVIDIA card (or no nvcc to build for it)"
fi
say "done"
