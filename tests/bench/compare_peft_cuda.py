#!/usr/bin/env python3
"""lorat and transformers with PEFT in turn on one NVIDIA card, at one model's shape.

    PYTHON tests/bench/compare_peft_cuda.py LORAT [--shape NAME] [--rounds N] [--steps N] [--output DIR] [--json] [--device cpu]

PYTHON has torch, transformers and peft; flash_attn and liger_kernel are used where they are installed. Nothing is downloaded: the
model is made with random weights from the config that `lorat bench shape` prints.
Both sides: LoRA r 16 on all linears, BF16 base, micro-batches of --micro-batch rows of --seq random tokens without padding (a packed
row is one document), accumulation, gradients clipped at 1, AdamW, everything recomputed in the backward pass (gradient checkpointing)
unless --no-recompute.
PyTorch runs in the fastest setting of a small grid: attention (flash_attention_2, sdpa) x adapter in BF16 (faster than PEFT's F32)
x Liger kernels. Then the two programs alternate, a process each, so that the card's memory and clocks are each one's own.
Peak memory: torch's allocator and what the driver reports for PyTorch; what the driver reports for lorat.
Writes DIR/compare-peft-SHAPE-DATE.md and .log unless --json, which prints one object.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RANK, ALPHA, WARM_UP = 16, 16, 2
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def say(**what):
    print(json.dumps(what), flush=True)


# ---- the PyTorch side, in a process of its own: `--worker` with a JSON object ----

def build(job, attention, liger):
    import peft
    import torch
    import transformers
    shape = dict(job["config"], use_cache=False)
    shape["max_position_embeddings"] = max(shape["max_position_embeddings"], job["seq"])
    config = transformers.AutoConfig.for_model(**shape)
    if liger:
        import liger_kernel.transformers as kernels
        getattr(kernels, f"apply_liger_kernel_to_{shape['model_type']}")()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(job["device"]):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    torch.set_default_dtype(torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM"),
                                autocast_adapter_dtype=False).train()
    if job["recompute"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return model, shape["vocab_size"]


def worker(job):
    import peft
    import torch
    import transformers
    transformers.utils.logging.set_verbosity_error()
    cuda = job["device"] == "cuda"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    for name in ("flash_attn", "liger_kernel"):
        try:
            module = __import__(name)
            versions[name] = getattr(module, "__version__", "present")
        except ImportError:
            pass
    say(versions=versions)
    model, vocabulary = build(job, job["attention"], job["liger"])
    params = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(params, lr=1e-5, weight_decay=0.0, fused=cuda)
    g = torch.Generator().manual_seed(1)
    shape = (job["accumulation"], job["micro_batch"], job["seq"])
    ids = torch.randint(0, vocabulary, shape, generator=g).to(job["device"])
    for step in range(WARM_UP + job["steps"]):
        start = time.perf_counter()
        for micro in ids:
            loss = model(input_ids=micro, labels=micro).loss / job["accumulation"]
            loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        adam.zero_grad()
        value = float(loss.detach()) * job["accumulation"]  # waits, as lorat's read-back does
        if cuda:
            torch.cuda.synchronize()
        if step >= WARM_UP:
            say(seconds=time.perf_counter() - start, loss=value)
    if cuda:
        free, total = torch.cuda.mem_get_info()
        say(allocator=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved(), driver=total - free)


# ---- the driver ----

class Driver:
    def __init__(self, o):
        self.o, self.log, self.versions, self.failed = o, [], {}, {}
        self.tokens = o.accumulation * o.micro_batch * o.seq
        asked = subprocess.run([o.lorat, "bench", "shape", "--shape", o.shape], capture_output=True, text=True)
        if asked.returncode != 0:
            sys.exit(asked.stderr.strip())
        self.config = json.loads(asked.stdout)

    def note(self, text):
        self.log.append(text)
        print(text, file=sys.stderr if self.o.json else sys.stdout, flush=True)

    def torch(self, setting, steps):
        """Tokens a second of each step, and memory; None when the setting does not run."""
        o = self.o
        job = dict(setting, config=self.config, device=o.device, seq=o.seq, micro_batch=o.micro_batch, accumulation=o.accumulation,
                   recompute=not o.no_recompute, steps=steps)
        name = f"{setting['attention']}{' + liger' if setting['liger'] else ''}"
        done = subprocess.run([sys.executable, Path(__file__).resolve(), "--worker", json.dumps(job)], capture_output=True, text=True)
        lines = [json.loads(s) for s in done.stdout.splitlines() if s.startswith("{")]
        out = {"rate": [], "loss": None}
        for line in lines:
            if "versions" in line:
                self.versions.update(line["versions"])
            elif "seconds" in line:
                out["rate"].append(self.tokens / line["seconds"])
                out["loss"] = line["loss"]
            else:
                out.update(line)
        if done.returncode != 0 or not out["rate"]:
            why = (done.stderr.strip().splitlines() or ["no output"])[-1][:200]
            self.failed[name] = why
            self.note(f"PEFT, {name}: does not run: {why}")
            return None
        self.note(f"PEFT, {name}: tok/s {[round(r) for r in out['rate']]}, loss {out['loss']:.4f}, driver {out.get('driver', 0) / 2**30:.2f} GiB, "
                  f"allocator {out.get('allocator', 0) / 2**30:.2f} GiB")
        return out

    def lorat(self):
        o = self.o
        command = [o.lorat, "bench", "step", "--json", "--device", o.device, "--shape", o.shape, "--seq", o.seq, "--micro-batch", o.micro_batch,
                   "--accumulation", o.accumulation, "--rank", RANK, "--steps", o.steps, "--recompute", "none" if o.no_recompute else "full"]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}")
        r = json.loads(done.stdout.splitlines()[-1])
        self.note(f"lorat: {r['tok_s']:.0f} tok/s ({self.tokens / r['ms_max'] * 1e3:.0f} to {self.tokens / r['ms_min'] * 1e3:.0f}), "
                  f"loss {r['loss']:.4f}, driver {r['device_bytes'] / 2**30:.2f} GiB, {100 * r['gemm_share']:.0f} % of the products' rate")
        return r

    def best_setting(self):
        grid = [{"attention": a, "liger": liger} for liger in (True, False) for a in ("flash_attention_2", "sdpa")]
        if self.o.device == "cpu":
            grid = [{"attention": "sdpa", "liger": False}]
        found = [(s, self.torch(s, 2)) for s in grid]
        found = [(max(r["rate"]), s) for s, r in found if r]
        if not found:
            sys.exit("PEFT: no setting of the grid runs: " + "; ".join(f"{k}: {v}" for k, v in self.failed.items()))
        return max(found, key=lambda x: x[0])[1]

    def measure(self):
        setting = self.best_setting()
        ours, theirs = [], []
        for _ in range(self.o.rounds):
            ours.append(self.lorat())
            theirs.append(self.torch(setting, self.o.steps))
        theirs = [t for t in theirs if t]
        if not theirs:
            sys.exit("PEFT: the setting that won the grid does not run again; see the log")
        a = statistics.median(r["tok_s"] for r in ours)
        b = statistics.median(x for t in theirs for x in t["rate"])
        return {"bench": "peft", "shape": self.o.shape, "ratio": round(a / b, 3), "lorat_tok_s": round(a, 1), "peft_tok_s": round(b, 1),
                "lorat_bytes": max(r["device_bytes"] for r in ours), "peft_bytes": max(t.get("driver", 0) for t in theirs),
                "peft_allocator_bytes": max(t.get("allocator", 0) for t in theirs), "lorat_loss": ours[-1]["loss"], "peft_loss": theirs[-1]["loss"],
                "gemm_share": max(r["gemm_share"] for r in ours),
                "peft_setting": f"{setting['attention']}{' + liger' if setting['liger'] else ''}", "device": ours[0]["device"]}


def gib(n):
    return f"{n / 2**30:.2f} GiB" if n else "-"


def write(driver, r):
    o = driver.o
    name = f"compare-peft-{o.shape}-{time.strftime('%Y-%m-%d')}"
    versions = ", ".join(f"{k} {v}" for k, v in driver.versions.items())
    doc = [f"# lorat and PEFT at the shape of {o.shape}, {time.strftime('%Y-%m-%d')}", "",
           f"{r['device']}. LoRA r {RANK} on all linears, BF16, {o.accumulation} micro-batches of {o.micro_batch} x {o.seq} random tokens a step, "
           f"{'nothing recomputed' if o.no_recompute else 'everything recomputed'}, random weights.",
           f"Programs alternate, a process each, {o.rounds} rounds of {o.steps} steps after {WARM_UP} that are left out. Raw lines: {name}.log.", "",
           f"{driver.lorat_version}; {versions}", "",
           "| program | setting | tokens/s, median | memory by the driver |", "| --- | --- | --- | --- |",
           f"| lorat | own kernels | {r['lorat_tok_s']:.0f} | {gib(r['lorat_bytes'])} |",
           f"| transformers + PEFT | {r['peft_setting']} | {r['peft_tok_s']:.0f} | {gib(r['peft_bytes'])} (tensors {gib(r['peft_allocator_bytes'])}) |", "",
           f"lorat has {r['ratio']:.2f} times the tokens a second.", *[f"PEFT with {k} did not run: {v}." for k, v in driver.failed.items()], ""]
    output = Path(o.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / (name + ".md")).write_text("\n".join(doc))
    (output / (name + ".log")).write_text("\n".join(driver.log) + "\n")
    print("\n".join(doc))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("lorat")
    p.add_argument("--shape", default="qwen3-8b", help="a shape of lorat bench")
    p.add_argument("--seq", type=int, default=2048)
    p.add_argument("--micro-batch", type=int, default=2)
    p.add_argument("--accumulation", type=int, default=4)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--no-recompute", action="store_true")
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: to try the script")
    p.add_argument("--output", default=str(ROOT / "docs/measurements"))
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    o.lorat = str(Path(o.lorat).resolve())
    driver = Driver(o)
    driver.lorat_version = subprocess.run([o.lorat, "version"], capture_output=True, text=True).stdout.splitlines()[0]
    r = driver.measure()
    if o.json:
        say(**r, **{f"version_{k}": v for k, v in driver.versions.items()})
    else:
        write(driver, r)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--worker":
        worker(json.loads(sys.argv[2]))
    else:
        main()
