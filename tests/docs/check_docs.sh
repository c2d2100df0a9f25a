#!/bin/sh
# What docs/ says of the tree, as far as a script can see it. Usage: check_docs.sh ROOT BUILD. Prints each breach, exits 1 if there is one.
#
#   every relative link in docs/*.md and README.md leads to a file or folder, and #anchor to one of its headings
#   every test in the third column of a table of docs/promises.md is one that ctest knows
#   the table of docs/exit-codes.md is ERR_LIST of trainer/base/err.h
#   docs/README.md names every page
set -u
cd "$1" || exit 2
build=$2
LC_ALL=C
export LC_ALL
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
bad=0
breach() {
    echo "$*"
    bad=1
}

# Headings as GitHub's anchors: lower case, punctuation gone, spaces to dashes.
anchors() {
    sed -n 's/^##* //p' "$1" | tr 'A-Z' 'a-z' | sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

pages=$(ls docs/*.md README.md 2>/dev/null)
for page in $pages; do
    folder=$(dirname "$page")
    # Text in backticks is no link.
    sed 's/`[^`]*`//g' "$page" | grep -o '\]([^)]*)' | sed 's/^](//; s/)$//' > "$work/links"
    while IFS= read -r link; do
        case $link in http://* | https://* | mailto:*) continue ;; esac
        path=${link%%#*}
        target=$page
        [ -n "$path" ] && target=$folder/$path
        if [ ! -e "$target" ]; then
            breach "$page: $link: there is no such file"
        elif [ "$link" != "$path" ] && ! anchors "$target" | grep -qx -e "${link#*#}"; then
            breach "$page: $link: there is no such heading"
        fi
    done < "$work/links"
done

if [ -f docs/README.md ]; then
    for page in docs/*.md; do
        name=${page#docs/}
        [ "$name" = README.md ] || grep -q "]($name)" docs/README.md || breach "docs/README.md: does not name $name"
    done
fi

find "$build" -name CTestTestfile.cmake -exec sed -n 's/^add_test(\[*=*\[*\([A-Za-z0-9_.-]*\).*/\1/p' {} + > "$work/tests"
[ -s "$work/tests" ] || breach "$build: no tests there, expected a build folder made with LORAT_TESTS"
if [ -f docs/promises.md ]; then
    awk -F '|' '/^\|/ && NF >= 5 { print $4 }' docs/promises.md | grep -o '`[^`]*`' | tr -d '`' | sort -u > "$work/named"
    [ -s "$work/named" ] || breach "docs/promises.md: names no tests"
    while IFS= read -r name; do
        grep -qx -e "$name" "$work/tests" || breach "docs/promises.md: $name: ctest knows no such test"
    done < "$work/named"
fi

sed -n 's/^    X(\(ERR_[A-Z]*\), \([0-9]*\), "\(.*\)").*/| \2 | `\1` | \3 |/p' trainer/base/err.h > "$work/list"
grep '^| [0-9]' docs/exit-codes.md > "$work/table"
[ -s "$work/list" ] || breach "trainer/base/err.h: no ERR_LIST"
diff "$work/list" "$work/table" || breach "docs/exit-codes.md: the table differs from ERR_LIST in trainer/base/err.h (<)"
exit $bad
