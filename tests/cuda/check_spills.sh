#!/bin/sh
# check_spills.sh ROOT - every kernel fits the registers of an RTX 3090: each file of kernels/cuda is compiled for 8.6 alone, and ptxas
# must report no spill and no stack frame. A kernel that spills still computes the right thing, several times slower.
set -u
root=$1
nvcc=
for try in "${LORAT_NVCC:-}" "$root/.cuda/bin/nvcc" nvcc /usr/local/cuda/bin/nvcc; do
    [ -z "$nvcc" ] && [ -n "$try" ] && "$try" --version >/dev/null 2>&1 && nvcc=$try
done
if [ -z "$nvcc" ]; then
    echo "skipped: nvcc is not installed"
    exit 77
fi
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
kernels=0
bad=0
for source in "$root"/kernels/cuda/*.cu; do
    [ -e "$source" ] || { echo "$root/kernels/cuda: no sources"; exit 1; }
    name=$(basename "$source" .cu)
    # The flags of kernels/cuda/CMakeLists.txt that change machine code.
    if ! "$nvcc" -std=c++17 -O3 -lineinfo -I"$root" -D_GNU_SOURCE -DLORAT_VERSION='"0"' -gencode arch=compute_86,code=sm_86 -Xptxas -v \
        -cubin -o "$work/$name.cubin" "$source" >"$work/$name.log" 2>&1; then
        cat "$work/$name.log"
        echo "$name.cu: does not compile for 8.6"
        bad=1
    fi
    # "Compiling entry function 'f' for 'sm_86'", then "F bytes stack frame, S bytes spill stores, L bytes spill loads", then "Used R registers".
    found=$(grep -c 'Compiling entry function' "$work/$name.log")
    kernels=$((kernels + found))
    sed -n "s/.*Compiling entry function '\([^']*\)'.*/\1/p; /bytes spill stores/p" "$work/$name.log" | awk -v file="$name.cu" '
        !/bytes spill stores/ { entry = $1; next }
        !/^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ { sub(/^ */, ""); print file ": " entry ": " $0; bad = 1 }
        END { exit bad }' || bad=1
done
echo "$kernels kernels compiled for 8.6"
[ "$kernels" -gt 0 ] || { echo "no kernel was found in what ptxas said"; bad=1; }
exit $bad
