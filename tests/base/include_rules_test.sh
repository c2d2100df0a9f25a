#!/bin/sh
# include_rules.sh on small trees: a clean one passes, each breach is found.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
failures=0

clean()
{
    rm -rf "$work/tree"
    mkdir -p "$work/tree/trainer/base" "$work/tree/datasets" "$work/tree/checkpoints" "$work/tree/kernels/cpu" "$work/tree/kernels/cuda"
    cd "$work/tree" || exit 2
    printf '#include <stdio.h>\n' > trainer/base/err.h
    printf '#include <jansson.h>\n#include "trainer/base/err.h"\n' > trainer/base/json.c
    printf '#include <openssl/evp.h>\n' > trainer/base/hash.c
    printf '#include "trainer/base/err.h"\n' > kernels/ops.h
    printf '#include <dnnl.h>\n#include "kernels/ops.h"\n' > kernels/cpu/matmul.c
    printf '#include <dnnl.h>\n#include "kernels/ops.h"\n' > kernels/cpu/table.c
    printf '#include "kernels/ops.h"\n' > trainer/comm.h
    printf '#include "trainer/base/err.h"\n' > datasets/dataset.h
    printf '#include <hdf5.h>\n#include "datasets/dataset.h"\n' > datasets/rows.c
    printf '#include "trainer/base/err.h"\n' > checkpoints/run.h
    printf '#include "datasets/dataset.h"\n#include "checkpoints/run.h"\n#include "kernels/ops.h"\n#include "trainer/comm.h"\n' > trainer/train.c
    printf '#include <yaml.h>\n' > trainer/yaml.c
}
# expect CODE TEXT: the verdict on the tree as it stands.
expect()
{
    text=$(sh "$here/include_rules.sh" "$work/tree" 2>&1)
    code=$?
    case "$code $text" in
    "$1 "*"$2"*) ;;
    *)
        echo "expected $1 and \"$2\", found $code and \"$text\""
        failures=$((failures + 1))
        ;;
    esac
}
# breach FILE INCLUDE TEXT
breach()
{
    clean
    printf '#include %s\n' "$2" >> "$1"
    expect 1 "$3"
}

clean
expect 0 ""
breach trainer/base/err.h '"kernels/ops.h"' 'the leaves include only'
breach datasets/rows.c '"checkpoints/run.h"' 'datasets/ includes only'
breach datasets/rows.c '"trainer/comm.h"' 'datasets/ includes only'
breach checkpoints/run.h '"kernels/ops.h"' 'checkpoints/ includes only'
breach kernels/cpu/table.c '"datasets/dataset.h"' 'kernels/ includes only'
breach trainer/comm.h '"kernels/cpu/cpu.h"' 'comm knows neither'
breach trainer/comm_local.c '"datasets/dataset.h"' 'comm knows neither'
breach trainer/train.c '"tests/check.h"' 'do not include tests'
breach trainer/train.c '"../kernels/ops.h"' 'a path with ..'
breach trainer/config.c '<jansson.h>' 'includes <jansson>'
breach trainer/base/log.c '  <openssl/sha.h>' 'includes <openssl/>'
breach trainer/config.c '<yaml.h>' 'expected one file'
breach datasets/seal.c '<H5Fpublic.h>' 'expected one file'
breach checkpoints/run.c '<hdf5.h>' 'belongs to'
breach kernels/ops.c '<oneapi/dnnl/dnnl.h>' 'belongs to'
breach trainer/train.c '<cuda_runtime.h>' 'belongs to'
clean
printf '#include "datasets/loop.h"\n' >> datasets/dataset.h
printf '#include "datasets/dataset.h"\n' > datasets/loop.h
expect 1 'loop'
clean
cp trainer/train.c trainer/plan.c
expect 1 'only trainer/train.c may know all four'
exit $((failures != 0))
