# gpu-check-multi.sh - the part of gpu-check.sh for two cards (the first two): links and their rates, the same bits as one card, scaling of
# data parallel, and NVLink against PCIe where a bridge is. Sourced; the helpers are its caller's.
# Models that are not under models/ are made with random weights in a folder beside them, 30 GB at most, and removed at the end.

if [ -z "$dry" ]; then
    mkdir -p models && scratch=$(mktemp -d "$root/models/.gpu-check-XXXXXX") || exit 1
    mkdir -p "$scratch/work"
fi
both="--set compute.device=cuda --set compute.gpus=[0,1]"

# ---- checks ----
check "lorat doctor: training can start" 60 "$lorat" doctor
check "NCCL with two ranks: sums and gathers" 120 "$programs/gpu_nccl" 2

# Which ways can be forced here? A refusal (exit code 7) has its reason in the log.
if [ -n "$simulated" ]; then most="--most 1 --seconds 0"; else most=; fi
# What RTX 3090s in Gen4 x16 slots can reach, published elsewhere (docs/nvlink.md).
expected_way() { # WAY
    case "$slug $1" in
        "rtx-3090 nvlink") echo "at most 56 GB/s" ;;
        "rtx-3090 pcie, peer-to-peer") echo "about 27 GB/s" ;;
        "rtx-3090 pcie, through host memory") echo "8 to 11 GB/s" ;;
        *) echo - ;;
    esac
}
largest() { sed -n "s/.*\"name\": \"$1\".*\"bus_gb_s\": \([0-9.e+-]*\).*/\1/p" "$tmp/out" | tail -n 1; }
# A forced way that was not taken is a failure; one that cannot be known is said.
check_way() { # NAME WANTED WAY
    [ -z "$dry" ] || return 0
    case "$2 $3" in
        auto*) ;;
        nvlink\ nvlink | pcie\ pcie*) result "$1: the bytes went the way that was asked for" "ok ($3)" ;;
        *unknown*) result "$1: the bytes went the way that was asked for" "not run: the way is not known" ;;
        *) result "$1: the bytes went the way that was asked for" "FAILED: asked for $2, went $3"; failed=1 ;;
    esac
}
links= bridge= way=
for link in auto nvlink pcie; do
    name="bench comm, $link"
    if [ -n "$dry" ]; then
        printf '%s\n    (at most 180 s) %s bench comm --json --device cuda --gpus 0,1 --interconnect %s\n' "$name" "$lorat" $link
        links="$links $link"
        continue
    fi
    if step 180 "$lorat" bench comm --json --device cuda --gpus 0,1 --interconnect $link $most; then
        way=$(words interconnect)
        result "$name: every result is right" ok
        row "$name, all-reduce of the largest size" "$(expected_way "$way")" "$(largest all-reduce) GB/s on the bus ($way)"
        row "$name, all-gather of the largest size" "$(expected_way "$way")" "$(largest all-gather) GB/s on the bus ($way)"
        check_way "$name" $link "$way"
        links="$links $link"
        [ $link != nvlink ] || bridge=1
    elif [ $rc = 7 ] && [ $link != auto ]; then
        not_run "$name" "$(sed -n 's/^lorat: error: //p' "$tmp/out" | head -n 1)"
    else
        result "$name" "FAILED (exit code $rc)"
        failed=1
    fi
done

# ---- the bits of one card ----
tiny_job
# Two cards with half of the micro-batches each: the same samples, and the same additions in the same order.
tiny_steps=6 tiny_links=${links:-auto}
[ -z "$simulated" ] || tiny_steps=2 tiny_links=auto
last=checkpoints/$(printf 'step-%08d' $tiny_steps)
tiny() { # NAME OPTION...: its run in $tmp/work/runs/NAME
    name=$1
    shift
    step 120 sh -c 'cd "$1/work" && shift && exec "$@"' - "$tmp" "$lorat" train "$tmp/job.yaml" --set name="$name" --set train.max_steps=$tiny_steps \
        --set train.warmup_steps=1 --set checkpoint.every=$tiny_steps "$@"
}
same_as_one() { # NAME OPTION...
    what="one card's bytes: $1"
    if [ -n "$dry" ]; then
        name=$1
        shift
        printf "one card's bytes: %s\n    (at most 120 s) %s train tiny --set name=%s %s\n" "$name" "$lorat" "$name" "$*"
        return
    fi
    if ! tiny "$@"; then
        result "$what" "FAILED (exit code $rc)"
        failed=1
    elif differing=$(cd "$tmp/work/runs" && for file in adapter/adapter_model.safetensors $last/adapter_model.safetensors $last/optimizer.safetensors; do
        cmp "one/$file" "$1/$file" 2>&1; done) && [ -z "$differing" ]; then
        result "$what" ok
    else
        result "$what" "FAILED: $(printf '%s' "$differing" | head -n 1)"
        failed=1
    fi
}
[ -n "$dry" ] || tiny one --set "compute.gpus=[0]" || { result "the tiny job on one card" "FAILED (exit code $rc)"; failed=1; }
same_as_one host --set "compute.gpus=[0]" --set model.placement=host
for link in $tiny_links; do
    same_as_one whole-$link $both --set compute.interconnect=$link
    [ -n "$dry" ] || row "preflight, $link" "-" "$(sed -n 's/^preflight *//p' "$tmp/out" | head -n 1)"
    same_as_one sharded-$link $both --set compute.interconnect=$link --set compute.parallel=sharded
done

# ---- real sizes ----
# Where the job's own model is not, one with random weights. Sets $model; empty with the reason in $why.
find_model() { # SHAPE FOLDER GIB
    model=$root/models/$2 why=
    [ -z "$dry" ] || { [ -e "$model/config.json" ] || printf '%s with random weights\n    (at most 900 s) %s/gpu_model %s models/...\n' "$1" "$programs" "$1"; return; }
    [ ! -e "$model/config.json" ] || [ -n "$simulated" ] || return 0
    model=$scratch/$1
    [ -z "$simulated" ] || set -- tiny tiny 0
    free=$(df -Pk "$scratch" | awk 'NR == 2 { print int($4 / 1048576) }')
    if [ "$free" -lt "$3" ]; then
        why="$3 GiB of disk for a model with random weights are not free in models/ ($free GiB are)" model=
    elif ! step 900 "$programs/gpu_model" "$1" "$model"; then
        why="a model with random weights could not be made (exit code $rc)" model=
        failed=1
    fi
}
# Long documents of random tokens; the jobs cut them to their own length.
random_data() { # VOCABULARY TOKENS
    awk -v vocabulary="$1" -v left="$2" 'BEGIN {
        srand(7)
        for (; left > 0; left -= 2048) {
            printf "{\"tokens\": [3"
            for (k = 1; k < 2048; k++)
                printf ", %d", 3 + int(rand() * (vocabulary - 3))
            print "]}"
        }
    }' >"$scratch/random.jsonl"
    step 120 "$lorat" data build --input "$scratch/random.jsonl" -o "$scratch/$1.h5" --vocab "$1" --replace
}
# train NAME CONFIG OPTION...: the job of configs/, twelve steps on random tokens; its run in $scratch/work/runs/NAME. lorat compare gives
# a verdict from ten steps behind the warm-up.
if [ -n "$simulated" ]; then
    vocabulary=256 tokens=4000
    steps="--set train.max_steps=2 --set data.sequence_length=64 --set train.batch=4"
else
    vocabulary=128000 tokens=450000 # of both families; 12 steps of 16 x 2048
    steps="--set train.max_steps=12"
fi
train() {
    name=$1 config=$2
    shift 2
    set -- "$lorat" train "$root/configs/$config.yaml" --set name="$name" --set model.path="$model" $steps \
        --set data.train="${scratch:-models/.gpu-check}/$vocabulary.h5" --set train.warmup_steps=1 --set eval.prompts=[] --set checkpoint.keep=1 "$@"
    if [ -n "$dry" ]; then
        printf '%s\n    (at most 900 s) %s\n' "$name" "$*"
        return
    fi
    if ! step 900 sh -c 'cd "$1/work" && shift && exec "$@"' - "$scratch" "$@"; then
        if [ $rc = 7 ] && grep -q 'the job needs' "$tmp/out"; then
            not_run "train $name" "$(sed -n 's/^lorat: error: \(.*the job needs [^:]*\).*/\1/p' "$tmp/out" | head -n 1)"
        else
            result "train $name" "FAILED (exit code $rc)"
            failed=1
        fi
        return 1
    fi
    summary=$scratch/work/runs/$name/summary.json
    cp "$summary" "$tmp/out"
    cat "$summary" >>"$log"
    way=$(words interconnect)
}
# rate NAME: the median of the steps behind the warm-up.
rate() { (cd "$scratch/work" && "$lorat" compare --json "runs/$1" "runs/$1" 2>/dev/null) | sed -n "s/.*\"label\".*\"tok_s\": \([0-9]*\).*/\1/p" | head -n 1; }
# against WHAT EXPECTED A B: run B held against run A.
against() {
    what=$1 wanted=$2 a=$3 b=$4
    if [ -n "$dry" ]; then
        printf '%s (expected %s)\n    (at most 60 s) %s compare runs/%s runs/%s\n' "$what" "$wanted" "$lorat" "$a" "$b"
        return
    fi
    if ! step 60 sh -c 'cd "$1/work" && "$2" compare "runs/$3" "runs/$4" --html "$5"' - "$scratch" "$lorat" "$a" "$b" "$output/$stem-$b.html"; then
        result "compare $a $b" "FAILED (exit code $rc)"
        failed=1
        return
    fi
    row "$what" "$wanted" "$(sed -n 's/^ *Speed: //p' "$tmp/out" | head -n 1) $a $(rate "$a"), $b $(rate "$b") tok/s. Charts: $stem-$b.html"
    if grep -q '^ *Same bits' "$tmp/out"; then
        result "$what: the same bits" ok
    else
        result "$what: the same bits" "FAILED: $(sed -n '2s/^ *//p' "$tmp/out")"
        failed=1
    fi
}

if [ -n "$quick" ] && [ -z "$simulated" ]; then
    not_run "scaling, and NVLink against PCIe" "--quick"
else
    [ -n "$dry" ] || random_data $vocabulary $tokens || { result "random tokens" "FAILED (exit code $rc)"; failed=1; }
    # Data parallel: twice the rows on two cards take as long as one card's. Both take the same rows a pass and recompute alike, whatever the
    # job says or would choose for a number of cards.
    title="8B data parallel, two cards against one"
    find_model llama3-8b Llama-3.1-8B-Instruct 17
    if [ -n "$why" ]; then
        not_run "$title" "$why"
    else
        half=8
        [ -z "$simulated" ] || half=2
        alike="--set train.micro_batch=1 --set compute.recompute=none --set compute.interconnect=auto"
        train 8b-one llama8b-2x3090-pcie $alike --set "compute.gpus=[0]" --set compute.parallel=auto --set train.batch=$half &&
            train 8b-two llama8b-2x3090-pcie $alike --set train.batch=$((2 * half)) &&
            { [ -n "$dry" ] || row "$title" "98 % or more" "$(awk -v one="$(rate 8b-one)" -v two="$(rate 8b-two)" 'BEGIN {
                printf "%.1f %%: %.0f tok/s on one, %.0f on two", 100 * two / (2 * one), one, two }') ($way)"; }
        if [ -n "$bridge$dry" ]; then
            train 8b-nvlink llama8b-2x3090-nvlink && check_way "train 8b-nvlink" nvlink "$way" &&
                train 8b-pcie llama8b-2x3090-pcie && check_way "train 8b-pcie" pcie "$way" &&
                against "8B data parallel, PCIe against NVLink" "no difference (1.00 to 1.02)" 8b-nvlink 8b-pcie
        else
            not_run "8B data parallel, NVLink against PCIe" "no bridge that can be used"
        fi
        [ -z "$scratch" ] || rm -rf "$scratch/llama3-8b"
    fi

    # The base that one card cannot hold, shared by two.
    find_model qwen3-14b Qwen3-14B 30
    first=nvlink
    [ -z "$simulated" ] || first=auto
    for size in small large; do
        title="14B sharded, $size micro-batch"
        rows=1 wanted="nvlink about 3 times pcie (by the plan)" batch=16
        [ $size = small ] || rows=8 wanted="no difference (by the plan)"
        case $slug in rtx-3090 | card) ;; *) wanted="-" ;; esac
        if [ -n "$simulated" ]; then
            rows=1 batch=4
            [ $size = small ] || continue
        fi
        if [ -n "$why" ]; then
            not_run "$title" "$why"
            continue
        fi
        options="--set train.micro_batch=$rows --set train.batch=$batch"
        made=
        if [ -n "$bridge$dry$simulated" ]; then
            train 14b-$size-$first qwen3-14b-2x3090-nvlink $options --set compute.interconnect=$first && made=1
            [ -n "$dry" ] || [ -z "$made" ] || check_way "train 14b-$size-$first" $first "$way"
        else
            not_run "$title, nvlink" "no bridge that can be used"
        fi
        train 14b-$size-pcie qwen3-14b-2x3090-pcie $options || made=
        if [ -z "$dry" ] && [ -e "$scratch/work/runs/14b-$size-pcie/summary.json" ]; then
            row "$title, pcie" "-" "$(rate 14b-$size-pcie) tok/s ($way)"
            check_way "train 14b-$size-pcie" pcie "$way"
        fi
        [ -z "$made" ] || against "$title, PCIe against NVLink" "$wanted" 14b-$size-$first 14b-$size-pcie
    done
fi
