#!/bin/sh
# setup_cuda_test.sh - scripts/setup-cuda.sh without a network: a python3 of our own answers for pip with small packages and writes down what it is
# asked for. What is fetched, what .cuda/ then looks like, that a second run and one after an interruption fetch only what is missing,
# and every refusal. Run from the root.
set -u
failures=0
bad() {
    echo "failed: $*" >&2
    failures=$((failures + 1))
}
# The program itself, where python3 is a script that looks for it.
python=$(python3 -c 'import sys; print(sys.executable)') || { echo "skipped: python3 is not installed"; exit 77; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/tree/scripts" "$tmp/bin"
cp scripts/setup.sh scripts/setup-cuda.sh "$tmp/tree/scripts/"

# Everything that the scripts call but python3 and apt-get.
for tool in sh env sed grep date mktemp dirname basename rm mkdir mv cp ln ls cat tail head cut du find chmod id uname nproc sha256sum awk tr; do
    path=$(command -v $tool) && ln -s "$path" "$tmp/bin/$tool"
done
cat >"$tmp/bin/python3" <<'END'
#!/bin/sh
# pip download ... -d DIR ... PACKAGE; the package is the one argument with ==.
case "$1 $2 ${3:-}" in
    "-m pip --version") [ -z "${FAKE_NO_PIP:-}" ] && echo "pip 1" ;;
    "-m pip download")
        echo "$*" >>"$FAKE_LOG"
        while [ "$1" != -d ]; do shift; done
        dir=$PWD/$2
        for package; do case $package in *==*) break ;; esac; done
        [ "$package" != "${FAKE_BROKEN:-}" ] || exit 1
        name=${package%%==*}
        rm -rf "$FAKE_TMP/wheel" && mkdir -p "$FAKE_TMP/wheel/nvidia/part/lib" "$FAKE_TMP/wheel/nvidia/part/include" "$FAKE_TMP/wheel/$name.dist-info/licenses" "$dir"
        cd "$FAKE_TMP/wheel" || exit 1
        echo "$package" >"nvidia/part/lib/lib$name.so.13"
        echo "$package" >"nvidia/part/include/$name.h"
        echo terms >"$name.dist-info/licenses/License.txt"
        if [ "$name" = nvidia-cuda-nvcc ]; then
            mkdir nvidia/part/bin
            printf '#!/bin/sh\n%s\n' "${FAKE_NVCC:-exit 0}" >nvidia/part/bin/nvcc
        fi
        "$FAKE_PYTHON" -m zipfile -c "$dir/$name.whl" nvidia "$name.dist-info"
        ;;
    "-m zipfile -e") exec "$FAKE_PYTHON" "$@" ;;
    *) echo "python3 $*: not expected" >&2; exit 1 ;;
esac
END
chmod +x "$tmp/bin/python3"
log=$tmp/asked
setup() { # NAME=VALUE... [-- OPTION...]
    : >"$log"
    : >"$tmp/settings"
    while [ $# -gt 0 ] && [ "$1" != -- ]; do echo "$1" >>"$tmp/settings"; shift; done
    [ $# = 0 ] || shift
    (
        while read -r setting; do export "${setting?}"; done <"$tmp/settings"
        PATH=$tmp/bin FAKE_LOG=$log FAKE_TMP=$tmp FAKE_PYTHON=$python exec sh "$tmp/tree/scripts/setup-cuda.sh" "$@"
    ) >"$tmp/said" 2>&1
}
says() { grep -qF -e "$1" "$tmp/said" || bad "expected \"$1\", it said: $(cat "$tmp/said")"; }
asked() { [ "$(wc -l <"$log")" -eq "$1" ] || bad "pip was asked $(wc -l <"$log") times, expected $1: $(cat "$log")"; }
cuda=$tmp/tree/.cuda

setup -- --help || bad "--help left with $?"
says "setup-cuda.sh [--run]"
setup -- --fast && bad "--fast is taken"
says "--fast: unknown, expected --run or nothing"
setup FAKE_NO_PIP=1 && bad "without pip it goes on"
says "missing: python3-pip. There is no apt-get here"
asked 0

# The run-time libraries alone; the third package is cut off at first.
nccl=$(grep -o 'nvidia-nccl-[^ "]*' scripts/setup-cuda.sh | head -n 1)
setup FAKE_BROKEN="$nccl" -- --run && bad "a package that cannot be fetched is passed over"
says "pip could not fetch $nccl"
asked 3
[ ! -e "$cuda" ] || bad ".cuda/ appeared before it was whole"
setup -- --run || bad "--run left with $?: $(cat "$tmp/said")"
asked 1
grep -qF -e "$nccl" "$log" || bad "after an interruption something else was fetched: $(cat "$log")"
for word in --no-deps --no-cache-dir; do grep -q -e "$word" "$log" || bad "pip is called without $word"; done
[ "$(wc -l <"$cuda/VERSIONS")" -eq 3 ] || bad "VERSIONS: $(cat "$cuda/VERSIONS")"
for package in nvidia-cublas nvidia-cudnn-cu13 nvidia-nccl-cu13; do
    [ -s "$cuda/lib/lib$package.so.13" ] || bad "$package's library is not in lib/"
    [ "$(readlink "$cuda/lib/lib$package.so")" = "lib$package.so.13" ] || bad "$package: no plain .so"
    [ -s "$cuda/licenses/$package/License.txt" ] || bad "$package: no licence"
done
[ -e "$cuda/lib64" ] || bad "no lib64"
[ ! -e "$cuda/bin/nvcc" ] || bad "--run brings the compiler"
[ ! -e "$cuda.part" ] || bad ".cuda.part is left"
setup -- --run || bad "a second --run left with $?"
says ".cuda/ is complete"
asked 0

# All of it. A compiler that does not work leaves what was there.
setup "FAKE_NVCC=exit 1" && bad "a broken nvcc is taken"
says "does not compile"
[ "$(wc -l <"$cuda/VERSIONS")" -eq 3 ] || bad "a failed run changed .cuda/"
rm -rf "$cuda.part"
setup || bad "setup-cuda.sh left with $?: $(cat "$tmp/said")"
says "done: .cuda/"
asked 10
[ -x "$cuda/bin/nvcc" ] || bad "nvcc cannot be run"
grep -q 'nvidia-cudnn-frontend==.*--python-version\|--python-version.*nvidia-cudnn-frontend==\|--only-binary=:all:' "$log" || bad "the front end is fetched for this python only"
for mode in "" --run; do
    setup -- $mode || bad "setup-cuda.sh $mode over a complete .cuda/ left with $?"
    says ".cuda/ is complete"
    asked 0
done
# Another version in the list: everything anew.
sed -i 's/^nvidia-cublas==.*/nvidia-cublas==1/' "$cuda/VERSIONS"
setup -- --run || bad "an old .cuda/: left with $?"
asked 3
[ $failures = 0 ]
