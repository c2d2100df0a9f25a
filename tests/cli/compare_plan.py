"""A plan's text against its JSON: every figure that both have. Usage: compare_plan.py TEXT JSON"""
import json
import re
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
with open(sys.argv[2], encoding="utf-8") as file:
    plan = json.load(file)
bad = 0


def check(there, what):
    global bad
    if not there:
        print(f"the text and the JSON differ in {what}")
        bad = 1


def same_size(shown, n):
    number, unit = shown.split()
    scale = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}[unit]
    return abs(float(number) - n / scale) <= 0.051 * (unit != "B")


def line(pattern):
    found = re.search(pattern, text, re.M)
    return found.groups() if found else None


check(line(r'^plan for "(.*)" on (.*)$') == (plan["job"], plan["device"]), "job and device")
batch = plan["batch"]
check(line(r"^  batch +(\d+) rows of (\d+) tokens a step: (\d+) x micro_batch (\d+).*, recompute (\w+)$")
      == tuple(str(batch[k]) for k in ("rows", "sequence_length", "passes", "micro_batch", "recompute")), "batch")
check(batch["rows"] == batch["passes"] * batch["micro_batch"] * plan["ranks"], "the batch's product")
check(f"{plan['model']['layers']} layers, width {plan['model']['width']}," in text, "model")
check(line(r"^  numbers +(\w+)")[0] == plan["precision"], "precision")
base = line(r"^  base +(.*)$")
check(base is None or base[0] == plan["base"]["text"], "base")

memory = plan["memory"]
counted = memory["reserve_bytes"] + memory.get("reader_bytes", 0)
for arena in memory["arenas"]:
    shown = line(rf"^  {re.escape(arena['name'])} +([\d.]+ \w+)$")
    check(shown and same_size(shown[0], arena["bytes"]), arena["name"])
    check(sum(part["bytes"] for part in arena["parts"]) <= arena["bytes"], f"{arena['name']}: its parts")
    for part in arena["parts"]:
        shown = line(rf"^    {re.escape(part['name'])} +([\d.]+ \w+)$")
        check(shown and same_size(shown[0], part["bytes"]), part["name"])
    counted += arena["bytes"] * arena["in_total"]
check(counted == memory["total_bytes"], "the sum")
shown = line(r"^  sum +([\d.]+ \w+) of ([\d.]+ \w+) available, ([\d.]+ \w+) left$")
check(same_size(shown[0], memory["total_bytes"]) and same_size(shown[1], memory["available_bytes"])
      and same_size(shown[2], memory["available_bytes"] - memory["total_bytes"]), "sum, available, left")

check(line(r"^  work +([\d.]+) GFLOP a token")[0] == f"{plan['work']['flop_token'] / 1e9:.2f}", "work")
time = plan["time"]
if re.search("^  time +unknown", text, re.M):
    check(time["tokens_s"] is None, "an unknown time")
else:
    shown = line(r"^  time +about (\d+) tokens a second( by (.*?))? \(")
    measured = "RTX" not in plan["device"]  # two measurements of this machine are not one
    check(measured or shown[0] == f"{time['tokens_s']:.0f}", "tokens a second")
    check(shown[2] == time["way"], "the way")

rows = re.findall(r"^    (computing alone|copies from host memory|nvlink|pcie, [a-z -]+?) +([\d.-]+) +[\d.]+ m?s +(\d+)", text, re.M)
check([(row["name"], "-" if row["bytes_s"] is None else f"{row['bytes_s'] / 1e9:.1f}", f"{row['tokens_s']:.0f}")
       for row in plan["links"]] == rows, "links")
worth = line(r"^    the bridge is worth ([\d.]+) times")
check((worth is None) == (plan["bridge"] is None) and (worth is None or worth[0] == f"{plan['bridge']['worth']:.2f}"), "the bridge")
sys.exit(bad)
