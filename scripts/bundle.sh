#!/bin/sh
# bundle.sh [--glibc 2.NN] [--build DIR] - lorat as one archive that runs where nothing of it is installed: the program, the CUDA plug-in
# when nvcc is here, the programs of gpu-check.sh, every shared library they need but NVIDIA's and the run-time libraries of C and C++, the
# jobs and the pages. Those libraries (libc, libm, libstdc++, libgcc_s) are every system's own: a newer one serves, while one from here
# would ask for this system's glibc. What the archive asks for is said at the end: on Debian 12 that is glibc 2.34. More than --glibc
# (default 2.36) is refused.
# Built in build-bundle/, or taken as it is from a build folder that is finished (--build), where the archive is then.
#
#   lorat-VERSION-x86_64/bin/lorat
#   .../lib/lorat/             lorat_cuda.so and the libraries; bin/lorat looks there first
#   .../lib/lorat/check/       programs for a check on a card: whatever is installed with COMPONENT check
#   .../scripts/setup-cuda.sh  brings NVIDIA's libraries into .cuda/ (--run), where lorat_cuda.so looks after its own folder
#   .../share/licenses/        of the libraries
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

most=2.36 build_folder=
while [ $# -gt 0 ]; do
    case $1 in
        --glibc) most=${2:?--glibc needs a version, as in 2.39}; shift ;;
        --build) build_folder=${2:?--build needs a folder}; shift ;;
        --help | -h) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "$1: unknown, expected --glibc 2.NN or --build DIR" ;;
    esac
    shift
done
[ "$(uname -sm)" = "Linux x86_64" ] || fail "$(uname -sm): expected Linux x86_64"

if [ -n "$build_folder" ]; then
    [ -x "$build_folder/lorat" ] || fail "$build_folder: no lorat in it, expected a build folder that is finished"
    command -v objdump >/dev/null || fail "objdump: not there, expected binutils"
else
    setup_compiler
    need binutils command -v objdump
    install_missing
    build_folder=build-bundle
    say "building $build_folder/"
    configure $build_folder -DCMAKE_BUILD_TYPE=Release -DLORAT_SANITIZE=OFF -DLORAT_TESTS=ON
    targets=lorat
    ! grep -q '^build lorat_cuda.so:' $build_folder/build.ninja || targets="lorat lorat_cuda"
    # The hook for a check on a card: the target gpu_check builds what COMPONENT check installs into lib/lorat/check.
    ! grep -q '^build gpu_check:' $build_folder/build.ninja || targets="$targets gpu_check"
    for target in $targets; do
        build $build_folder "$target"
    done
fi

version=$(sed -n 's/^project(lorat VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
name=lorat-$version-x86_64
root=$tmp/$name
mkdir -p "$root/bin" "$root/lib/lorat" "$root/share/licenses" "$root/scripts"
cmake --install "$build_folder" --prefix "$root" --component Unspecified >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail "cmake --install failed"; }
cmake --install "$build_folder" --prefix "$root" --component check >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; fail "cmake --install failed"; }
cp -r configs docs README.md LICENSE "$root/"
cp scripts/setup.sh scripts/setup-cuda.sh "$root/scripts/"
cp scripts/gpu-check*.sh "$root/scripts/"

programs() { find "$root/bin" "$root/lib" -type f -exec sh -c 'head -c 4 "$1" | grep -q ELF' - {} \; -print; }
own='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|nsl|anl|mvec|stdc[+][+]|gcc_s)[.]so[.0-9]*)$'
nvidia='^lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|nvidia)[^ ]*$'
# Name and path of each library that programs need, the system's own and NVIDIA's left out.
libraries() {
    for p in $(programs); do
        env -u LD_LIBRARY_PATH ldd "$p" 2>/dev/null
    done | awk -v own="$own" -v nvidia="$nvidia" '/=> \// && $1 !~ own && $1 !~ nvidia { print $1, $3 }' | sort -u
}
say "gathering libraries"
libraries | while read -r library path; do
    [ -e "$root/lib/lorat/$library" ] || cp -L "$path" "$root/lib/lorat/$library"
    package=$(dpkg -S "$(readlink -f "$path")" 2>/dev/null | cut -d: -f1 | head -n 1)
    [ -z "$package" ] || cp -Lf "/usr/share/doc/$package/copyright" "$root/share/licenses/$package" 2>/dev/null || true
done
strip --strip-debug "$root"/bin/* "$root"/lib/lorat/*.so*

programs | xargs objdump -T >"$tmp/symbols" 2>/dev/null
newest=$(grep -o 'GLIBC_2\.[0-9]*' "$tmp/symbols" | sort -t. -k2 -n -u | tail -n 1 | cut -d_ -f2)
cxx=$(grep -o 'GLIBCXX_3\.4\.[0-9]*' "$tmp/symbols" | sort -t. -k3 -n -u | tail -n 1)
say "needs glibc $newest, and a libstdc++ that has $cxx"
[ "$(printf '%s\n%s\n' "$newest" "$most" | sort -t. -k2 -n | tail -n 1)" = "$most" ] ||
    fail "glibc $newest, expected at most $most. Build on an older system, or say --glibc $newest"

out=$build_folder/$name.tar.gz
tar -C "$tmp" --sort=name --owner=0 --group=0 --numeric-owner -czf "$out.part" "$name"
mv "$out.part" "$out"

# The proof: elsewhere, with nothing in the environment, everything comes from the bundle but what is left out by name.
mkdir "$tmp/elsewhere"
tar -C "$tmp/elsewhere" -xzf "$out"
rm -rf "$root"
cd "$tmp/elsewhere/$name"
env -i bin/lorat version || fail "the unpacked program does not run"
env -i bin/lorat config configs/quickstart.yaml >/dev/null || fail "the unpacked program does not read a job"
root=$tmp/elsewhere/$name
outside=$(env -i LD_TRACE_LOADED_OBJECTS=1 bin/lorat | awk -v own="$own" -v root="$root/" '/=> \// && $1 !~ own && index($3, root) != 1 { print $3 }')
[ -z "$outside" ] || fail "the unpacked program takes from the system: $outside"
cd "$OLDPWD"
say "$out ($(du -h "$out" | cut -f1))"
