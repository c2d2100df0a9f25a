#!/usr/bin/env python3
"""What lorat writes, read by PEFT and transformers, and back: run by ctest, skipped (77) where they are missing.

    python tests/golden/check_roundtrip.py LORAT PRINT_LOGITS [SmolLM2-135M-Instruct.Q4_1.gguf]

On SmolLM2, read from its GGUF file by the package gguf:
  tokens    `lorat data build` gives the ids of AutoTokenizer.apply_chat_template
  adapter   lorat train -> export --format peft -> PeftModel: the same logits;
            PEFT's save_pretrained -> lora.start_from: the same bits
  merged    export --format hf -> AutoModelForCausalLM: the same logits
  answers   lorat generate = transformers' greedy generate
On tiny-llama, a Hugging Face folder: export --format hf of an adapter that PEFT made, against transformers and PEFT.
Everything in float32 unless said; errors are max|d| / max|ref|.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
try:
    import h5py
    import numpy as np
    import peft
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

F32 = 2e-5  # two float32 programs, each a few 1e-6 from the exact value
BF16 = 0.05
MAX_NEW = 16
THREADS = 1
PROMPTS = ["Name the largest planet.", "What is 12 times 12?", "Write one sentence about the sea."]
JOB = """name: {name}
model: {{path: {model}}}
data: {{train: data.h5, sequence_length: 128}}
lora: {{rank: 8, alpha: 16, start_from: {start}}}
train: {{max_steps: {steps}, batch: 2, learning_rate: {rate}, schedule: constant, warmup_steps: 0}}
compute: {{device: cpu, precision: f32, threads: {threads}}}
"""
failures = 0


def check(what, ok, value=""):
    global failures
    print(f"{'ok    ' if ok else 'FAILED'} {what} {value}", flush=True)
    failures += not ok


def close(what, got, want, limit):
    error = float((got.double() - want.double()).abs().max() / want.double().abs().max())
    check(what, error <= limit, f"{error:.1e} (at most {limit:.0e})")


def lorat(*args):
    done = subprocess.run([LORAT, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"lorat {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def logits(model, adapter, ids, precision="f32"):
    done = subprocess.run([PRINT_LOGITS, str(model), str(adapter), precision, *map(str, ids)], stdout=subprocess.PIPE, check=True)
    return torch.from_numpy(np.frombuffer(done.stdout, dtype=np.float32).copy()).view(len(ids), -1)


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def train(name, model, steps, rate, start="null"):
    Path(name + ".yaml").write_text(JOB.format(name=name, model=model, steps=steps, rate=rate, start=start, threads=THREADS))
    lorat("train", name + ".yaml", "-q")
    return Path("runs") / name / "adapter"


def same_tensors(what, a, b):
    a, b = load_file(a / "adapter_model.safetensors"), load_file(b / "adapter_model.safetensors")
    same = a.keys() == b.keys() and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)
    check(what, same, f"{len(a)} tensors")


def check_tokens(gguf, tokenizer):
    lines = (ROOT / "datasets/samples/quickstart.jsonl").read_text().splitlines()[:24]
    with h5py.File("data.h5") as f:
        group = f["train"]
        offsets, tokens = group["offsets"][:], group["tokens"][:]
        docs = [tokens[a:b].tolist() for a, b in zip(offsets, offsets[1:])]
    want = [tokenizer.apply_chat_template(json.loads(line)["messages"], return_dict=False) for line in lines]
    check("data build = apply_chat_template", docs == want, f"{len(docs)} conversations, {sum(map(len, docs))} ids")
    return docs


def check_answers(gguf, adapter, merged, folder, tokenizer):
    args = [a for p in PROMPTS for a in ("--prompt", p)]
    common = ["--precision", "f32", "--max-new", MAX_NEW, "--threads", THREADS, "--json"]

    def answers(*what):
        return [json.loads(s)["answer"] for s in lorat("generate", *what, *common, *args).splitlines()]

    ours, again = answers("--model", gguf, "--adapter", adapter), answers("--model", folder)
    check("generate: base and adapter = merged folder", ours == again)
    for prompt, answer in zip(PROMPTS, ours):
        ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False)
        out = merged.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                              max_new_tokens=MAX_NEW, do_sample=False, pad_token_id=0)[0, len(ids):]
        want = tokenizer.decode(out, skip_special_tokens=True)
        check("generate = transformers", answer == want, repr(answer) if answer == want else f"{answer!r}, expected {want!r}")


def smollm2(gguf):
    try:
        import make_smollm2
        from gguf import GGUFReader
    except ImportError as e:
        print("skipped:", e)
        return
    lines = (ROOT / "datasets/samples/quickstart.jsonl").read_text().splitlines()[:24]
    Path("data.jsonl").write_text("\n".join(lines) + "\n")
    lorat("data", "build", "--model", gguf, "--input", "data.jsonl", "-o", "data.h5")
    ours = train("first", gguf, 2, 1e-2)
    lorat("export", "runs/first", "--format", "peft", "-o", "peft")
    lorat("export", "runs/first", "--format", "hf", "--dtype", "f32", "-o", "merged")
    lorat("export", "runs/first", "--format", "hf", "-o", "merged-bf16")
    same_tensors("export --format peft = the run's adapter", Path("peft"), ours)
    tokenizer = AutoTokenizer.from_pretrained("merged")
    ids = check_tokens(gguf, tokenizer)[0]

    base = make_smollm2.load(GGUFReader(gguf)).eval()
    plain = logits_of(base, ids)
    close("base: lorat = transformers", logits(gguf, "-", ids), plain, F32)
    model = peft.PeftModel.from_pretrained(base, "peft").eval()
    want = logits_of(model, ids)
    change = float((want - plain).abs().max() / plain.abs().max())
    check("two steps changed the logits", change > 0.01, f"{change:.3f}")
    close("adapter: lorat = PEFT", logits(gguf, "peft", ids), want, F32)
    model.save_pretrained("again")
    same_tensors("lorat -> PEFT -> lorat, bit for bit", train("second", gguf, 1, 0, "again"), ours)

    merged = AutoModelForCausalLM.from_pretrained("merged", dtype=torch.float32).eval()
    close("merged: transformers = PEFT", logits_of(merged, ids), want, F32)
    close("merged: lorat = PEFT", logits("merged", "-", ids), want, F32)
    half = AutoModelForCausalLM.from_pretrained("merged-bf16", dtype="auto").eval()
    check("merged, --dtype auto, is bf16", half.dtype == torch.bfloat16)
    close("merged in bf16: lorat = transformers, both in f32", logits("merged-bf16", "-", ids), logits_of(half.float(), ids), F32)
    close("merged in bf16: near PEFT", logits_of(half, ids), want, BF16)
    check_answers(gguf, "peft", merged, "merged", tokenizer)


def tiny_llama():
    folder = ROOT / "tests/golden/tiny-llama"
    ids = json.loads((folder / "expected.json").read_text())["tokens"][:21]
    lorat("export", folder / "adapter", "--format", "hf", "--model", folder, "-o", "tiny")
    merged = AutoModelForCausalLM.from_pretrained("tiny", dtype="auto").eval()
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload().eval()
    check("tiny-llama: the folder's own type", merged.dtype == torch.float32)
    for name, t in theirs.state_dict().items():
        if "q_proj" in name or "down_proj" in name:
            close(f"tiny-llama: {name} = PEFT's merge", merged.state_dict()[name], t, 1e-6)
    close("tiny-llama merged: transformers = PEFT", logits_of(merged, ids), logits_of(theirs, ids), F32)
    close("tiny-llama merged: lorat = PEFT", logits("tiny", "-", ids), logits_of(theirs, ids), F32)


if __name__ == "__main__":
    LORAT, PRINT_LOGITS = (str(Path(p).resolve()) for p in sys.argv[1:3])
    gguf_path = Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"
    sys.path.insert(0, str(ROOT / "tests/golden"))
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="lorat-roundtrip-") as folder:
        os.chdir(folder)
        tiny_llama()
        if gguf_path.exists():
            smollm2(str(gguf_path))
        else:
            print(f"not checked: there is no {gguf_path}")
        os.chdir("/")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}; {failures} failed")
    sys.exit(failures > 0)
