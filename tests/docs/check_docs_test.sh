#!/bin/sh
# check_docs.sh finds what it should: a small tree without a breach, then one breach after another. Usage: check_docs_test.sh
set -u
check=$(cd "$(dirname "$0")" && pwd)/check_docs.sh
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/docs" "$tree/trainer/base" "$tree/build/tests"
cd "$tree" || exit 2
failed=0

fresh() {
    printf '# Index\n\n[a](a.md) [p](promises.md) [e](exit-codes.md) [up](../trainer/base/err.h)\n' > docs/README.md
    printf '# A page\n\n## The second: part\n\n[e](exit-codes.md#exit-codes) [here](#the-second-part) `[no](link)` [web](https://example.org/x)\n' > docs/a.md
    printf '| promise | how | proven by | try it |\n| --- | --- | --- | --- |\n| p | `how` | `one`, `two` | `lorat` |\n' > docs/promises.md
    printf '# Exit codes\n\n| code | name | meaning |\n| --- | --- | --- |\n| 0 | `ERR_OK` | done |\n' > docs/exit-codes.md
    printf '#define ERR_LIST(X) \\\n    X(ERR_OK, 0, "done") \\\n' > trainer/base/err.h
    printf 'add_test(one "/x")\nadd_test([=[two]=] "/y")\n' > build/tests/CTestTestfile.cmake
}
expect() { # STATUS TEXT
    out=$(sh "$check" "$tree" build 2>&1)
    rc=$?
    case $out in *"$2"*) found=0 ;; *) found=1 ;; esac
    if [ $rc -ne "$1" ] || [ $found -ne 0 ]; then
        printf 'expected exit %s and "%s", got exit %s:\n%s\n' "$1" "$2" "$rc" "$out"
        failed=1
    fi
    fresh
}

fresh
expect 0 ""
echo '[x](gone.md)' >> docs/a.md
expect 1 "gone.md: there is no such file"
echo '[x](exit-codes.md#nothing)' >> docs/a.md
expect 1 "exit-codes.md#nothing: there is no such heading"
echo '[x](docs/gone.md)' > README.md
expect 1 "README.md: docs/gone.md"
rm README.md
echo '| p | h | `three` | x |' >> docs/promises.md
expect 1 "three: ctest knows no such test"
echo '| 1 | `ERR_INTERNAL` | a fault |' >> docs/exit-codes.md
expect 1 "the table differs"
echo '# New' > docs/new.md
expect 1 "does not name new.md"
rm docs/new.md
rm build/tests/CTestTestfile.cmake
expect 1 "no tests there"
exit $failed
