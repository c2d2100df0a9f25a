#!/bin/sh
# setup-cuda.sh [--run] - what the CUDA backend is built with and needs at run time, into .cuda/, without root: NVIDIA's own packages on the
# Python index (compiler, runtime, cuBLAS, cuDNN and its front end, NCCL, NVTX). Only the driver is the system's: R580 or later.
#   --run   the libraries that a finished lorat_cuda.so opens, without the compiler (a third of it less)
# About 1.3 GB are fetched, one package at a time; an interrupted run goes on with the next. .cuda/ appears only when it is whole.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

# Versions that are of one toolkit (CUDA 13.0, driver R580). cuDNN: from 9.25 a deterministic backward on 9.0 (attention_cudnn.h).
RUN="nvidia-cublas==13.1.0.3 nvidia-cudnn-cu13==9.27.0.42 nvidia-nccl-cu13==2.28.9"
BUILD="nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
       nvidia-nvtx==13.0.85 nvidia-cudnn-frontend==1.32.0"
stage=.cuda.part

case ${1:-} in
    --run) packages=$RUN ;;
    "") packages="$RUN $BUILD" ;;
    --help | -h) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "$1: unknown, expected --run or nothing" ;;
esac
packages=$(echo $packages)
# .cuda/VERSIONS is the list of what is in it; a folder with all of this and more is as good.
whole=1
for p in $packages; do
    grep -qx -e "$p" .cuda/VERSIONS 2>/dev/null || whole=
done
if [ -n "$whole" ]; then
    say ".cuda/ is complete"
    exit 0
fi
need python3 command -v python3
need python3-pip python3 -m pip --version
install_missing

# One package into its own folder, which gets its name only when it is whole.
fetch() {
    [ -d "$stage/$1" ] && return
    rm -rf "$stage/wheel" "$stage/open"
    mkdir -p "$stage/wheel" "$stage/open"
    say "fetching $1"
    set -- "$1"
    case $1 in # Its headers are the same for every Python; the wheel is not.
        nvidia-cudnn-frontend*) set -- "$1" --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 --platform "manylinux_2_28_$(uname -m)" ;;
    esac
    loudly python3 -m pip download -q --no-deps --no-cache-dir --disable-pip-version-check --retries 5 -d "$stage/wheel" "$@" ||
        fail "pip could not fetch $1"
    python3 -m zipfile -e "$stage"/wheel/*.whl "$stage/open"
    rm -rf "$stage/wheel"
    mv "$stage/open" "$stage/$1"
}

# The wheels' folders (nvidia/cu13, nvidia/cudnn, nvidia/nccl; the front end's own) as one toolkit.
gather() {
    rm -rf "$stage/tree"
    mkdir -p "$stage/tree/bin" "$stage/tree/include" "$stage/tree/lib" "$stage/tree/nvvm"
    for p in $packages; do
        for from in "$stage/$p"/nvidia/*/ "$stage/$p"/; do
            for part_of in bin include lib nvvm; do
                [ ! -d "$from$part_of" ] || cp -rlf "$from$part_of/." "$stage/tree/$part_of/"
            done
        done
        mkdir -p "$stage/tree/licenses/${p%%==*}"
        find "$stage/$p" -ipath '*.dist-info/*license*' -type f -exec cp -f {} "$stage/tree/licenses/${p%%==*}/" \;
    done
    # Zip files opened by Python lose the right to be run.
    find "$stage/tree/bin" "$stage/tree/nvvm/bin" -type f ! -name '*.profile' ! -name '*.stub' -exec chmod +x {} + 2>/dev/null || true
    ln -s lib "$stage/tree/lib64" # where nvcc looks
    for library in "$stage"/tree/lib/lib*.so.*; do
        name=${library##*/}
        ln -sf "$name" "$stage/tree/lib/${name%%.so.*}.so" # what a linker looks for
    done
    for p in $packages; do
        echo "$p"
    done >"$stage/tree/VERSIONS"
}

mkdir -p "$stage"
for p in $packages; do
    fetch "$p"
done
gather
case $packages in
    *nvidia-cuda-nvcc*) # A toolkit that compiles a kernel here is one that builds lorat here.
        echo '#include <cuda_bf16.h>
__global__ void k(float *x) { x[threadIdx.x] *= 2; }' >"$tmp/k.cu"
        loudly "$stage/tree/bin/nvcc" -arch=sm_80 -c -o "$tmp/k.o" "$tmp/k.cu" || fail "the nvcc that was fetched does not compile"
        ;;
esac
rm -rf .cuda
mv "$stage/tree" .cuda
rm -rf "$stage"
say "done: .cuda/ ($(du -sh .cuda | cut -f1)). Build lorat again to use it: cmake -S . -B build && cmake --build build --target lorat lorat_cuda"
if ! command -v nvidia-smi >/dev/null; then
    echo "There is no NVIDIA driver on this machine (no nvidia-smi): what is built here runs where there is one, R580 or later."
fi
