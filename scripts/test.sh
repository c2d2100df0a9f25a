#!/bin/sh
# test.sh - builds lorat and runs its whole suite through ctest: once as released, once under AddressSanitizer and
# UndefinedBehaviorSanitizer (build-asan/, without the tests labelled slow, and of those of the simulated card only the ones labelled
# sim-quick).
# LORAT_TEST_REPORTS=DIR: JUnit files release.xml and asan.xml are written there.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

setup_compiler
need python3 command -v python3
# apt's modules are those of /usr/bin/python3, which need not be the python3 of this shell; LORAT_PYTHON tells the tests which to use.
has_h5py() { "$1" -c 'import h5py, numpy'; }
if ! has_h5py "${LORAT_PYTHON:-python3}" >/dev/null 2>&1; then
    need python3-h5py has_h5py /usr/bin/python3
    need python3-numpy has_h5py /usr/bin/python3
    install_missing
    export LORAT_PYTHON=/usr/bin/python3
fi
setup_model

reports=${LORAT_TEST_REPORTS:-$tmp}
reports=$(mkdir -p "$reports" && cd "$reports" && pwd)
rc=0
suite() { # FOLDER NAME OPTION...
    folder=$1
    name=$2
    shift 2
    say "running the tests in $folder/"
    ctest --test-dir "$folder" --output-on-failure -j2 --output-junit "$reports/$name.xml" "$@" || rc=$?
}

say "building build/"
configure build -DCMAKE_BUILD_TYPE=Release -DLORAT_SANITIZE=OFF -DLORAT_TESTS=ON
build build all
suite build release

say "building build-asan/"
configure build-asan -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS_RELEASE="-O1 -g1" -DLORAT_SANITIZE=ON -DLORAT_TESTS=ON -DLORAT_CUDA=OFF
build build-asan all
suite build-asan asan -LE 'slow|bench|^sim$'

say "done"
exit $rc
