#!/bin/sh
# What docs/ says that `lorat plan` prints is what it prints. Usage: check_plan.sh ROOT LORAT. Prints each breach, exits 1 if there is one.
#
#   an indented block under a line that holds `lorat plan ... --on ...` in backticks: each of its lines is one of the output
#   a row of docs/hardware.md with a card's short name in backticks: memory, micro-batch, recomputation and tokens a second
#
# The models of the shipped jobs are stood in for by folders of tests/golden/shapes, which hold a config.json.
set -u
root=$(cd "$1" && pwd) || exit 2
lorat=$(realpath "$2") || exit 2
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
mkdir models
ln -s "$root/configs" configs
ln -s "$root/tests" tests
for model in Qwen3-8B Qwen3-14B; do ln -s "$root/tests/golden/shapes/$model" models/; done
ln -s "$root/tests/golden/shapes/Llama-3.1-8B" models/Llama-3.1-8B-Instruct
bad=0
breach() {
    echo "$*"
    bad=1
}

# $1: words of a command after `lorat`. Output and messages to ./out.
plan() {
    # shellcheck disable=SC2086 # words
    "$lorat" $1 > out 2>&1
}

blocks=0
for page in plan nvlink; do
    # "COMMAND<tab>LINE" for each line of each block.
    awk '
        match($0, /`lorat plan [^`]* --on [^`]*`/) { command = substr($0, RSTART + 7, RLENGTH - 8); block = 0; next }
        command == "" { next }
        /^    / { block = 1; print command "\t" substr($0, 5); next }
        /^$/ && !block { next }
        { command = "" }' "$root/docs/$page.md" > lines
    last=
    while IFS='	' read -r command line; do
        if [ "$command" != "$last" ]; then
            plan "$command"
            blocks=$((blocks + 1))
            last=$command
        fi
        grep -qxF -e "$line" out || breach "docs/$page.md: lorat $command does not print: $line"
    done < lines
done
[ $blocks -ge 2 ] || breach "docs/: $blocks blocks of a plan, expected several"

rows=0
# shellcheck disable=SC2016 # backticks of Markdown
grep '^| [^|]* | `[a-z0-9][a-z0-9-]*` |' "$root/docs/hardware.md" > table
while IFS= read -r row; do
    # shellcheck disable=SC2016
    card=$(printf '%s' "$row" | sed 's/^| [^|]* | `\([a-z0-9-]*\)` |.*/\1/')
    rows=$((rows + 1))
    if plan "plan configs/llama8b.yaml --on $card"; then
        want=$(sed -n 's/^  batch .*: \([0-9]*\) x micro_batch \([0-9]*\), recompute \([a-z]*\)$/, \1 x \2 rows, recompute \3/p' out)
        want="$(sed -n 's/^  sum  *\([0-9.]* [GM]iB\) of .*/\1/p' out)$want"
        time=$(sed -n 's/^  time        about \([0-9]*\) tokens.*/\1/p' out)
        [ -n "$time" ] || time="rate not known"
    else
        want="needs $(sed -n 's/.*the job needs \([0-9.]* GiB\),.*/\1/p' out)"
        time=-
    fi
    case $(printf '%s' "$row" | tr -d ,) in
    *"| $(printf '%s' "$want" | tr -d ,) | $time |"*) ;;
    *) breach "docs/hardware.md: $card: expected | $want | $time |" ;;
    esac
done < table
[ $rows -ge 2 ] || breach "docs/hardware.md: $rows cards in the table, expected several"
[ $bad -eq 0 ] && echo "$blocks blocks, $rows cards"
exit $bad
