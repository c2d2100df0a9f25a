#!/usr/bin/env python3
"""lorat and PyTorch with PEFT in turn on one job and one machine.

    PYTHON tests/bench/compare_peft.py LORAT [--budget SECONDS] [--python PATH] [--steps N]
                                             [--rounds N] [--output DIR] [--date D] [--machine TEXT]

PYTHON has torch, transformers and peft; --python names a second interpreter whose torch is compared too.
The job: SmolLM2-135M from its GGUF file (for PyTorch exported to a Hugging Face folder in bf16), LoRA r 16 on all linears,
AdamW, gradients clipped at 1, micro-batches of one row of 1,024 random tokens, each of them a target, two cores, once with
everything recomputed (gradient checkpointing, use_reentrant=False) and once without.
PyTorch runs in the best setting of a small grid: dtype x attention, then one thread instead of two; its adapter has the dtype
of the base, which is faster than PEFT's default of float32. --second DTYPE:ATTENTION names the one setting of the second
interpreter where its grid would take too long.
Programs alternate, a process each; the first step of a process is left out and the rest give a median. The budget is kept by
doing fewer rounds, never shorter ones.
Writes DIR/compare-peft-DATE.md and .log (default docs/measurements). Nothing else should run on the machine.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GGUF = ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
ROW, VOCAB, RANK, ALPHA, RATE = 1024, 49152, 16, 32, 1e-4
GRID_SHARE = 0.15  # of the budget: settings of a grid that would begin later are left out, the likely best come first
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
JOB = """name: {name}
model: {{path: {model}}}
data: {{train: data.h5, sequence_length: 1024, shuffle: false}}
lora: {{rank: 16, alpha: 32}}
train: {{max_steps: {steps}, batch: 1, micro_batch: 1, learning_rate: {rate}, schedule: constant, warmup_steps: 0}}
compute: {{device: cpu, precision: {precision}, recompute: {recompute}, threads: {threads}}}
checkpoint: {{every: null}}
"""


def rows():
    r = random.Random(1)
    return [[r.randrange(10, VOCAB) for _ in range(ROW)] for _ in range(16)]


# ---- the PyTorch side, in a process of its own: `--worker` with a JSON object ----

def say(**what):
    print(json.dumps(what), flush=True)


def worker(job):
    import peft
    import torch
    import transformers
    transformers.utils.logging.set_verbosity_error()
    say(versions={"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__})
    data = [torch.tensor([row]) for row in json.loads(Path("rows.json").read_text())]
    models = {}

    def build(dtype, attention, checkpointing):
        torch.manual_seed(0)
        if (dtype, attention) not in models:
            models.clear()
            base = transformers.AutoModelForCausalLM.from_pretrained("base", torch_dtype=getattr(torch, dtype),
                                                                     attn_implementation=attention)
            base.config.use_cache = False
            config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
            models[dtype, attention] = peft.get_peft_model(base, config, autocast_adapter_dtype=False).train()
        model = models[dtype, attention]
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()
        return model

    succeeded = False
    for setting in job["settings"]:
        if succeeded and time.time() > job["deadline"]:
            break
        try:
            torch.set_num_threads(setting["threads"])
            model = build(setting["dtype"], setting["attention"], setting["checkpointing"])
            params = [p for p in model.parameters() if p.requires_grad]
            adam = torch.optim.AdamW(params, lr=RATE, weight_decay=0.0)
            for step in range(job["steps"]):
                ids = data[step % len(data)]
                say(setting=setting, begin=time.time())
                start = time.perf_counter()
                loss = model(input_ids=ids, labels=ids).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(params, 1.0)
                adam.step()
                adam.zero_grad()
                say(setting=setting, step=step, seconds=time.perf_counter() - start, loss=float(loss.detach()))
            succeeded = True
        except (RuntimeError, ImportError, ValueError, TypeError) as e:
            say(setting=setting, failed=str(e).splitlines()[0][:200])


# ---- the driver ----

class Driver:
    def __init__(self, options):
        self.o = options
        self.started = time.time()
        self.log = []
        self.versions = {}

    def left(self):
        return self.o.budget - (time.time() - self.started)

    def note(self, text):
        line = f"{time.time() - self.started:7.1f} s  {text}"
        print(line, flush=True)
        self.log.append(line)

    def spawn(self, command, name, watch=None):
        """Run to the end; (when it began, its output, peak resident bytes).
        self.seen = when the file `watch` had its first line."""
        begin = time.time()
        with open(name + ".out", "w+") as out, open(name + ".err", "w+") as err:
            child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err)
            self.seen, done = None, 0
            while watch and self.seen is None and not done:
                time.sleep(0.05)
                done, status, usage = os.wait4(child.pid, os.WNOHANG)
                if Path(watch).exists() and Path(watch).stat().st_size > 0:
                    self.seen = time.time()
            if not done:
                _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0), err.seek(0)
            text, errors = out.read(), err.read()
        if child.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: exit {child.returncode}\n{text}{errors}")
        return begin, text, usage.ru_maxrss * 1024

    def prepare(self):
        Path("rows.json").write_text(json.dumps(rows()))
        Path("rows.jsonl").write_text("".join(json.dumps({"tokens": r, "loss": [1] * ROW}) + "\n" for r in rows()))
        self.spawn([self.o.lorat, "data", "build", "--model", GGUF, "--input", "rows.jsonl", "-o", "data.h5"], "build")
        # B is zero before the first update: a step without a learning rate exports the base itself.
        Path("base.yaml").write_text(JOB.format(name="base", model=GGUF, steps=1, rate=0, precision="auto",
                                                 recompute="auto", threads=2))
        self.spawn([self.o.lorat, "train", "base.yaml", "-q"], "base")
        self.spawn([self.o.lorat, "export", "runs/base", "--format", "hf", "--dtype", "bf16", "-o", "base"], "export")
        self.versions["lorat"] = self.spawn([self.o.lorat, "version"], "version")[1].strip().replace("\n", "; ")
        self.note("prepared: " + self.versions["lorat"])

    def lorat(self, recompute, number):
        name = f"lorat-{recompute}-{number}"
        Path(name + ".yaml").write_text(JOB.format(name=name, model=GGUF, steps=self.o.steps, rate=RATE, precision="auto",
                                                   recompute=recompute, threads=2))
        begin, _, peak = self.spawn([self.o.lorat, "train", name + ".yaml", "-q"], name, Path("runs") / name / "metrics.jsonl")
        lines = [json.loads(s) for s in (Path("runs") / name / "metrics.jsonl").read_text().splitlines()]
        steps = [m for m in lines if "loss" in m]
        seconds = [ROW / m["tok_s"] for m in steps]
        total = time.time() - begin
        result = {"rate": [m["tok_s"] for m in steps[1:]], "loss": steps[0]["loss"], "peak": peak,
                  "share": [m["gemm_share"] for m in steps[1:]],
                  "wait": sum(m["wait_s"] for m in steps[1:]) / sum(seconds[1:]) if len(steps) > 1 else 0.0,
                  "first": self.seen - begin - seconds[0], "total": total}
        self.note(f"{name}: tok/s {[round(m['tok_s'], 1) for m in steps]}, first loss {result['loss']:.4f}, "
                  f"peak {peak / 2**20:.0f} MiB, "
                  f"GEMM share {result['share']}, until the first micro-batch {result['first']:.2f} s, in all {total:.1f} s")
        return result

    def torch(self, python, label, settings, steps):
        job = {"settings": settings, "steps": steps, "deadline": time.time() + GRID_SHARE * self.o.budget}
        begin, text, peak = self.spawn([python, Path(__file__).resolve(), "--worker", json.dumps(job)], label)
        out = {}
        for line in map(json.loads, filter(lambda s: s.startswith("{"), text.splitlines())):
            if "versions" in line:
                self.versions[label.split("-")[0]] = ", ".join(f"{k} {v}" for k, v in line["versions"].items())
                continue
            r = out.setdefault(json.dumps(line["setting"]), {"rate": [], "all": [], "peak": peak, "first": None, "loss": None})
            if "failed" in line:
                r["failed"] = line["failed"]
            elif "begin" in line:
                r["first"] = r["first"] or line["begin"] - begin
            else:
                r["loss"] = r["loss"] or line["loss"]
                r["all"].append(ROW / line["seconds"])
                r["rate"] = r["all"][1:]
        for key, r in out.items():
            s = json.loads(key)
            way = " checkpointing" if s["checkpointing"] else ""
            self.note(f"{label} {s['dtype']} {s['attention']} {s['threads']} threads{way}: "
                      + (f"failed: {r['failed']}" if "failed" in r else
                         f"tok/s {[round(x, 1) for x in r['all']]}, first loss {r['loss']:.4f}, "
                         f"peak {peak / 2**20:.0f} MiB, until the first micro-batch {r['first']:.2f} s"))
        return {k: r for k, r in out.items() if "failed" not in r and r["rate"]}

    def best_setting(self, python, label, only=None):
        """The fastest of dtype x attention at two threads, then the same with one."""
        grid = [{"dtype": d, "attention": a, "threads": 2, "checkpointing": True} for d in ("bfloat16", "float32")
                for a in ("sdpa", "eager") if only is None or only == f"{d}:{a}"]
        found = self.torch(python, label + "-grid", grid, 2)
        if not found:
            sys.exit(f"{python}: no setting of the grid runs; see the log")
        best = json.loads(max(found, key=lambda k: found[k]["rate"][0]))
        one = dict(best, threads=1)
        rate = max(r["rate"][0] for r in found.values())
        for key, r in self.torch(python, label + "-thread", [one], 2).items():
            if r["rate"][0] > rate:
                best = one
        self.note(f"{label}: best {best}")
        return best

    def alternate(self, pairs, until):
        """A B A B ... : at least one round, then as many as fit before `until` seconds of the budget are left."""
        results, number = {name: [] for name, _ in pairs}, 0
        while True:
            start = time.time()
            for name, run in pairs:
                results[name].append(run(number))
            number += 1
            if number >= self.o.rounds or self.left() - (time.time() - start) < until:
                return results

    def measure(self):
        self.prepare()
        me = sys.executable
        best = {"torch": self.best_setting(me, "torch")}
        pythons = {"torch": me}
        if self.o.python:
            pythons["second"] = self.o.python
            best["second"] = self.best_setting(self.o.python, "second", self.o.second)

        def contender(label, checkpointing):
            setting = dict(best[label], checkpointing=checkpointing)

            name = f"{label}-{'full' if checkpointing else 'none'}"

            def run(number):
                got = self.torch(pythons[label], f"{name}-{number}", [setting], self.o.steps)
                return next(iter(got.values()), None)
            return run

        table = []
        budget = self.left()
        shares = [(label, full) for full in (True, False) for label in pythons]
        for i, (label, full) in enumerate(shares):
            until = budget * (1 - (i + 1) / len(shares))
            got = self.alternate([("lorat", lambda n, f=full, i=i: self.lorat("full" if f else "none", f"{i}-{n}")),
                                  (label, contender(label, full))], until)
            table.append((label, full, got))
        return best, table


def median(runs, key):
    values = [x for r in runs if r for x in (r[key] if isinstance(r[key], list) else [r[key]])]
    return statistics.median(values) if values else float("nan")


def table_of(best, table, versions):
    lines = ["| recompute | program | setting | tokens/s (median, least to most, steps) | peak resident "
             "| until the first micro-batch | first loss |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    notes = []
    for label, full, got in table:
        for name, runs in got.items():
            rates = [x for r in runs if r for x in r["rate"]]
            if not rates:
                continue
            s = best.get(name)
            setting = "auto (bf16 where the CPU has it), 2 threads" if s is None else \
                f"{s['dtype']}, {s['attention']}, {s['threads']} thread{'s' * (s['threads'] > 1)}"
            lines.append(f"| {'full' if full else 'none'} | {'lorat' if s is None else versions[name]} | {setting} "
                         f"| {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}, {len(rates)}) "
                         f"| {median(runs, 'peak') / 2**20:.0f} MiB | {median(runs, 'first'):.2f} s "
                         f"| {median(runs, 'loss'):.4f} |")
        ours, theirs = median(got["lorat"], "rate"), median(got[label], "rate")
        memory = median(got["lorat"], "peak") / median(got[label], "peak")
        notes.append(f"- {versions[label]}, {'full recompute' if full else 'no recompute'}: lorat has {ours / theirs:.2f} times "
                     f"the tokens/s and {memory:.2f} times the memory; its share of the GEMM rate is "
                     f"{100 * median(got['lorat'], 'share'):.0f} %, its data wait {100 * median(got['lorat'], 'wait'):.2f} %.")
    return lines + [""] + notes


def cpu_name():
    text = Path("/proc/cpuinfo").read_text()
    name = next((s.split(":", 1)[1].strip() for s in text.splitlines() if s.startswith("model name")), "CPU")
    flags = " (AVX-512 BF16)" if "avx512_bf16" in text else " (AVX-512)" if "avx512f" in text else ""
    return f"{name}{flags}, {len(os.sched_getaffinity(0))} cores"


def busy_cores(seconds=3):
    """How many cores other programs keep busy just now."""
    def ticks():
        v = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(v), v[3] + v[4]
    before, idle_before = ticks()
    time.sleep(seconds)
    after, idle_after = ticks()
    return os.cpu_count() * (1 - (idle_after - idle_before) / max(1, after - before))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("lorat")
    p.add_argument("--budget", type=float, default=360, help="seconds in all")
    p.add_argument("--python", help="a second interpreter with torch, transformers and peft")
    p.add_argument("--steps", type=int, default=5, help="steps a process; the first is left out")
    p.add_argument("--rounds", type=int, default=5, help="most rounds of a pair")
    p.add_argument("--output", default=str(ROOT / "docs/measurements"))
    p.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    p.add_argument("--machine", default=cpu_name())
    p.add_argument("--second", help="DTYPE:ATTENTION of --python, instead of its grid")
    options = p.parse_args()
    options.lorat, options.output = str(Path(options.lorat).resolve()), Path(options.output).resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    load = busy_cores()
    driver = Driver(options)
    driver.note(f"{options.machine}, {load:.2f} cores busy before")
    with tempfile.TemporaryDirectory(prefix="lorat-compare-") as folder:
        os.chdir(folder)
        best, table = driver.measure()
        os.chdir("/")
    driver.note(f"{busy_cores():.2f} cores busy after")
    name = f"compare-peft-{options.date}"
    second = (" --python PATH" + (f" --second {options.second}" if options.second else "")) if options.python else ""
    command = f"python tests/bench/compare_peft.py build/lorat --budget {options.budget:g}{second}"
    doc = [f"# lorat and PyTorch with PEFT, {options.date}", "",
           f"Machine: {options.machine}. SmolLM2-135M, LoRA r {RANK} on all linears, AdamW, micro-batches of {ROW} random tokens",
           "that are all targets, one a step. Programs alternate, a process each; the first step of each process is left out.",
           "PyTorch runs in the fastest setting of its grid." + (f" The second one was only tried as {options.second}." if options.second else ""),
           f"Raw lines: {name}.log. Made by `{command}`.", "",
           *(["The machine was not idle: do not quote these figures.", ""] if load > 0.1 else []),
           f"{driver.versions['lorat']}", "", *table_of(best, table, driver.versions), ""]
    (options.output / (name + ".md")).write_text("\n".join(doc))
    (options.output / (name + ".log")).write_text("\n".join(driver.log) + "\n")
    print("\n".join(doc))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--worker":
        worker(json.loads(sys.argv[2]))
    else:
        main()
