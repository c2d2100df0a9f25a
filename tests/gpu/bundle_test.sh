#!/bin/sh
# bundle_test.sh BUILD - scripts/bundle.sh over a finished build folder, and its archive unpacked elsewhere with nothing in the environment: it
# runs, plans, and checks a simulated card from beginning to end; no file in it needs a library from outside but the system's own and
# NVIDIA's, none of NVIDIA's is in it, and it asks for no newer glibc than it says. Run from the root.
set -u
build=$1
failures=0
bad() {
    echo "failed: $*" >&2
    failures=$((failures + 1))
}
skip() {
    echo "skipped: $*"
    exit 77
}
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the archive is for Linux x86_64"
command -v objdump >/dev/null || skip "objdump is not installed"
for file in lorat tests/gpu/gpu_nccl tests/gpu/twins_sim.so tests/model/test_golden tests/sim/lorat_cuda_sim.so; do
    [ -e "$build/$file" ] || skip "$file is not built"
done

said=$(sh scripts/bundle.sh --fast 2>&1) && bad "--fast is taken"
case $said in *"--fast: unknown, expected --glibc"*) ;; *) bad "--fast: $said" ;; esac
said=$(sh scripts/bundle.sh --build tests 2>&1) && bad "a folder without lorat is taken"
case $said in *"no lorat in it"*) ;; *) bad "--build tests: $said" ;; esac

tmp=$(mktemp -d)
archive=
trap 'rm -rf "$tmp" ${archive:+"$archive"}' EXIT
# A newer system than the archive is meant for makes one for itself.
system=$(ldd --version 2>&1 | sed -n '1s/.* //p')
most=$(printf '2.36\n%s\n' "$system" | sort -t. -k2 -n | tail -n 1)
sh scripts/bundle.sh --glibc "$most" --build "$build" >"$tmp/said" 2>&1 || { cat "$tmp/said" >&2; exit 1; }
archive=$(ls "$build"/lorat-*-x86_64.tar.gz)
glibc=$(sed -n 's/.*needs glibc \(2\.[0-9]*\).*/\1/p' "$tmp/said")
case $glibc in
    2.[0-9] | 2.[12][0-9] | 2.3[0-4]) ;;
    *) if [ "$most" = 2.36 ]; then bad "asks for glibc $glibc, expected 2.34 at most"; else echo "glibc: not compared, made on glibc $system"; fi ;;
esac
mkdir "$tmp/elsewhere"
tar -C "$tmp/elsewhere" -xzf "$archive"
cd "$tmp/elsewhere"/lorat-*-x86_64 || exit 1
root=$PWD

found=$(find . -type f | sed 's|.*/||' | grep -E '^lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|nvidia|nvrtc)')
[ -z "$found" ] || bad "NVIDIA's libraries are in it: $found"
for file in bin/lorat configs/qwen3-14b-2x3090-pcie.yaml docs/README.md scripts/gpu-check-multi.sh scripts/setup-cuda.sh LICENSE \
    lib/lorat/check/gpu_twins lib/lorat/check/gpu_nccl lib/lorat/check/gpu_model lib/lorat/check/gpu_repeat lib/lorat/check/gpu_ops_rows lib/lorat/check/test_golden \
    lib/lorat/check/twins_sim.so lib/lorat/check/tests/golden/tiny-qwen3/config.json lib/lorat/check/tests/bench/compare_peft_cuda.py; do
    [ -s "$file" ] || bad "$file is not in it"
done
! [ -e "$build/lorat_cuda.so" ] || [ -s lib/lorat/lorat_cuda.so ] || bad "the plug-in was built and is not in it"

# Every program and library: where the dynamic linker finds what it needs, and the newest glibc that it names.
own='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|stdc[+][+]|gcc_s)[.]so.*)$'
nvidia='^lib(cublas|cublasLt|cudart)[.]so.*$'
find bin lib -type f -exec sh -c 'head -c 4 "$1" | grep -q ELF' - {} \; -print >"$tmp/files"
[ "$(wc -l <"$tmp/files")" -gt 10 ] || bad "only $(wc -l <"$tmp/files") programs and libraries"
while read -r file; do
    # A module is loaded by a program of the bundle, whose own search path then holds.
    case $file in *.so*) search=$root/lib/lorat ;; *) search= ;; esac
    outside=$(env -i ${search:+LD_LIBRARY_PATH="$search"} /usr/bin/ldd "$file" 2>&1 | awk -v own="$own" -v nvidia="$nvidia" -v root="$root/" \
        '/not found/ && $1 !~ nvidia { print } /=> \// && $1 !~ own && $1 !~ nvidia && index($3, root) != 1 { print }')
    [ -z "$outside" ] || bad "$file takes from outside: $outside"
    newer=$(objdump -T "$file" 2>/dev/null | grep -o 'GLIBC_2\.[0-9]*' | cut -d. -f2 | sort -n | tail -n 1)
    [ "${newer:-0}" -le "${glibc#2.}" ] || bad "$file asks for glibc 2.$newer, said were $glibc"
done <"$tmp/files"

env -i bin/lorat version >"$tmp/version" || bad "lorat version left with $?"
grep -q '^lorat ' "$tmp/version" || bad "lorat version says $(cat "$tmp/version")"
env -i bin/lorat config configs/quickstart.yaml >"$tmp/config" || bad "lorat config left with $?"
env -i bin/lorat plan configs/quickstart.yaml --on 3090 --set model.path=lib/lorat/check/tests/golden/tiny-qwen3 --set data.sequence_length=64 >"$tmp/plan" 2>&1 || bad "lorat plan left with $?: $(cat "$tmp/plan")"

for option in "" --quick --multi; do
    env -i PATH="$PATH" sh scripts/gpu-check.sh --dry-run $option >"$tmp/dry" 2>&1 || bad "gpu-check.sh --dry-run $option left with $?: $(tail -n 3 "$tmp/dry")"
    grep -q "$root/lib/lorat/check/" "$tmp/dry" || bad "gpu-check.sh --dry-run $option does not take the bundle's programs"
done
env -i PATH="$PATH" LORAT_CUDA="$build/tests/sim/lorat_cuda_sim.so" sh scripts/gpu-check.sh >"$tmp/check" 2>&1 || { bad "gpu-check.sh left with $?"; cat "$tmp/check" >&2; }
table=$(cat docs/measurements/gpu-simulated-card-*.md)
for row in "twin | ok" "reference: update | ok" "golden model, F32 and BF16: tiny-qwen3 | ok" "byte for byte | ok" "the same bytes | ok" "NCCL with one rank: sums and gathers | ok" \
    "tiny, does not fit | - | does not fit" "tiny, base in host memory, 64 tokens a pass | at most 1.05"; do
    case $table in *"$row"*) ;; *) bad "the table has no \"$row\"" ;; esac
done
case $table in *FAILED*) bad "something failed: $(printf '%s\n' "$table" | grep FAILED)" ;; esac
[ $failures = 0 ]
