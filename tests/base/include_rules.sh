#!/bin/sh
# Who may include what (docs/, "Rooms"). Usage: include_rules.sh ROOT. Prints each breach, exits 1 if there is one.
#
#   trainer/base/   only trainer/base/
#   datasets/, checkpoints/, kernels/   only themselves and trainer/base/
#   trainer/comm*   not datasets/ or checkpoints/; of kernels/ only ops.h
#   trainer/train.c alone may include all four of datasets/, checkpoints/, kernels/ and comm.h
#   nobody includes tests/, and no file includes itself by a detour
#   third-party headers: see the table below
set -u
cd "$1" || exit 2
LC_ALL=C
export LC_ALL
edges=$(mktemp) || exit 2
found=$(mktemp) || exit 2
trap 'rm -f "$edges" "$found"' EXIT

# "file<TAB>included", as written between quotes or angle brackets (these keep their <).
sources=$(find trainer datasets checkpoints kernels -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.inc' \) 2>/dev/null)
[ -n "$sources" ] || { echo "no sources under $1"; exit 2; }
# shellcheck disable=SC2086
awk '
    /^[ \t]*#[ \t]*include[ \t]*[<"]/ {
        name = $0
        sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
        open = substr(name, 1, 1)
        name = substr(name, 2)
        sub(/[>"].*$/, "", name)
        if (open == "\"" && name !~ /\//) {
            folder = FILENAME
            sub(/[^\/]*$/, "", folder)
            name = folder name
        }
        print FILENAME "\t" (open == "<" ? "<" : "") name
    }' $sources > "$edges"

awk -F '\t' '
    function breach(why) { print $1 ": includes " $2 ": " why }
    function within(path, folder) { return index(path, folder) == 1 }
    $2 ~ /^</ { next }
    $2 ~ /\.\.\// { breach("a path with ..; name it from the root"); next }
    within($2, "tests/") && !within($1, "kernels/cuda/") { breach("sources do not include tests"); next }
    within($1, "trainer/base/") { if (!within($2, "trainer/base/")) breach("the leaves include only trainer/base/"); next }
    within($1, "datasets/") { if (!within($2, "datasets/") && !within($2, "trainer/base/")) breach("datasets/ includes only itself and trainer/base/"); next }
    within($1, "checkpoints/") { if (!within($2, "checkpoints/") && !within($2, "trainer/base/")) breach("checkpoints/ includes only itself and trainer/base/"); next }
    within($1, "kernels/") { if (!within($2, "kernels/") && !within($2, "trainer/base/") && !within($2, "tests/sim/")) breach("kernels/ includes only itself and trainer/base/"); next }
    within($1, "trainer/comm") && (within($2, "datasets/") || within($2, "checkpoints/") || (within($2, "kernels/") && $2 != "kernels/ops.h" && $2 != "kernels/cuda/plugin.h")) {
        breach("comm knows neither datasets/ nor checkpoints/, and of kernels/ only ops.h and the table of the plug-in")
    }
    within($2, "datasets/") { room[$1] = 1 }
    within($2, "checkpoints/") { has[$1, "c"] = 1 }
    within($2, "kernels/") { has[$1, "k"] = 1 }
    $2 == "trainer/comm.h" { has[$1, "m"] = 1 }
    END {
        for (file in room)
            if (file != "trainer/train.c" && has[file, "c"] && has[file, "k"] && has[file, "m"])
                print file ": includes datasets/, checkpoints/, kernels/ and comm.h: only trainer/train.c may know all four"
    }' "$edges" >> "$found"

# Third-party headers: pattern, where they may stand, and in how many files.
third_party()
{
    grep -E "	<($1)" "$edges" | cut -f 1 | sort -u | awk -v where="$2" -v most="$3" -v name="$1" '
        $0 !~ where { print $0 ": includes <" name ">, which belongs to " where }
        $0 ~ where { n++; files = files " " $0 }
        END { if (most > 0 && n > most) print "<" name "> is included by" files ": expected one file" }' >> "$found"
}
third_party 'jansson' '^trainer/base/json\.c$' 1
third_party 'openssl/' '^trainer/base/hash\.c$' 1
third_party 'yaml\.h' '^trainer/[^/]*\.c$' 1
third_party '(hdf5|H5)' '^datasets/.*\.c$' 1
third_party 'pcre2' '^datasets/.*\.c$' 1
third_party 'utf8proc' '^datasets/.*\.c$' 1
third_party '(dnnl|oneapi/)' '^kernels/cpu/' 0
third_party '(cuda|cublas|cudnn|nccl|nvml|nvtx|cub/|mma\.h|cooperative_groups)' '^kernels/cuda/' 0

# A cycle among includes; tsort names its members on stderr.
awk -F '\t' '$2 !~ /^</ && $1 != $2 { print $2, $1 } $1 == $2 { print $1 ": includes itself" > "/dev/stderr" }' "$edges" 2>> "$found" |
    tsort 2>&1 > /dev/null | sed 's/^tsort: //' >> "$found"

if [ -s "$found" ]; then
    cat "$found"
    exit 1
fi
