#!/bin/sh
# check_spills_test.sh - check_spills.sh passes a clean kernel and fails one that spills, one that does not compile, and a folder without any.
set -u
here=$(dirname "$0")
root=$(mktemp -d) || exit 2
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/kernels/cuda"
bad=0
expect() { # WHAT EXIT-CODE
    sh "$here/check_spills.sh" "$root" >"$root/log" 2>&1
    rc=$?
    if [ $rc = 77 ]; then
        cat "$root/log"
        exit 77
    fi
    [ $rc = "$2" ] && return
    echo "$1: exit code $rc, expected $2:"
    cat "$root/log"
    bad=1
}

expect "no sources" 1
echo '__global__ void clean(float *x) { x[threadIdx.x] *= 2; }' >"$root/kernels/cuda/clean.cu"
expect "a clean kernel" 0
# 64 values live at once in at most 32 registers a thread.
cat >"$root/kernels/cuda/spills.cu" <<'END'
__global__ void __maxnreg__(32) spills(float *x)
{
    float v[64];
#pragma unroll
    for (int i = 0; i < 64; i++)
        v[i] = x[i * 1024 + threadIdx.x];
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int i = 0; i < 64; i++)
            v[i] = v[i] * v[(i * 7 + j) % 64] + x[j];
#pragma unroll
    for (int i = 0; i < 64; i++)
        x[i * 1024 + threadIdx.x] = v[i];
}
END
expect "a kernel that spills" 1
grep -q 'spills.cu: .*spill stores' "$root/log" || { echo "the spill is not named:"; cat "$root/log"; bad=1; }
rm "$root/kernels/cuda/spills.cu"
echo '__global__ void broken(' >"$root/kernels/cuda/broken.cu"
expect "a file that does not compile" 1
exit $bad
