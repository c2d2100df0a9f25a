#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus/ that are not written by the tests themselves.

    python3 tests/fuzz/make_corpus.py        (needs the PyPI package tokenizers)

The cases of checks.md for safetensors and GGUF come from the test programs: test_safetensors --write tests/fuzz/corpus/safetensors,
test_gguf --write tests/fuzz/corpus/gguf. What fuzzing found is beside the seeds, named by its SHA-1.
"""
import hashlib
import json
import os
import shutil
import struct

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def put(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def real_files():
    for name in ("small.safetensors", "exported.safetensors"):
        shutil.copyfile(os.path.join(ROOT, "tests/golden/tensors", name), os.path.join(HERE, "corpus/safetensors", name))
    shutil.copyfile(os.path.join(ROOT, "tests/golden/tensors/dequant.gguf"), os.path.join(HERE, "corpus/gguf/dequant"))
    for target in ("facts", "adapter_config"):
        os.makedirs(os.path.join(HERE, "corpus", target), exist_ok=True)
    for model in ("llama", "llama3", "qwen2", "qwen3"):
        folder = os.path.join(ROOT, "tests/golden/tiny-" + model)
        shutil.copyfile(os.path.join(folder, "config.json"), os.path.join(HERE, "corpus/facts", model))
        shutil.copyfile(os.path.join(folder, "adapter/adapter_config.json"), os.path.join(HERE, "corpus/adapter_config", model))


def yaml():
    with open(os.path.join(ROOT, "configs/quickstart.yaml")) as f:
        put("yaml", "quickstart", f.read())
    base = "name: n\nmodel: {path: m.gguf}\ndata: {train: d.h5}\n"
    cases = {
        "minimal": base,
        "everything": base.replace("train: d.h5", "train: d.h5, sequence_length: 128, packing: false, too_long: drop") +
        "seed: 7\nlora: {rank: 8, alpha: 16, dropout: 0.05, targets: [q_proj, v_proj], scaling: rslora}\n"
        "train: {epochs: 1, max_steps: 5, batch: 8, micro_batch: auto, learning_rate: 2e-4, schedule: linear}\n"
        "compute: {device: cpu, precision: f32, recompute: full, memory_limit: 2GiB, threads: 2}\n"
        "eval: {every: 10min, prompts: [\"a\", 'b']}\ncheckpoint: {every: 5, keep: 2}\n",
        "unknown-key": base + "trian: {epochs: 1}\n",
        "unknown-nested": base + "train: {epoch: 1}\n",
        "duplicate": base + "seed: 1\nseed: 2\n",
        "wrong-type": base + "seed: [1]\n",
        "range": base + "lora: {rank: -1}\n",
        "big-number": base + "seed: 99999999999999999999999\n",
        "nan": base + "train: {learning_rate: .nan}\n",
        "alias": base + "lora: &a {rank: 8}\ntrain: *a\n",
        "anchor": "name: &x n\n",
        "tag": "name: !!str n\n",
        "tag-python": "name: !!python/object/apply:os.system [id]\n",
        "documents": base + "---\n" + base,
        "merge": base + "lora: {<<: {rank: 8}}\n",
        "list-root": "- 1\n- 2\n",
        "empty": "",
        "deep": "a: " + "[" * 5000,
        "deep-block": "".join("  " * i + "a:\n" for i in range(64)),
        "long-text": "name: " + "x" * 3000 + "\n",
        "nul": base + "seed: \0\n",
        "utf8-bad": "name: \xff\xfe\n".encode("latin-1"),
        "utf16": ("\ufeff" + base).encode("utf-16-le"),
        "tabs": "name:\tn\n\tmodel: x\n",
        "key-null": "? \n: x\n",
        "unclosed": "name: \"abc\n",
        "complex-key": "? [a, b]\n: c\n",
        "directive": "%YAML 9.9\n---\nname: n\n",
    }
    for name, text in cases.items():
        put("yaml", name, text)


def jsonl():
    cases = {
        "text": '{"text": "Hello w\\u00f6rld"}\n{"text": ""}\n',
        "messages": '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, '
                    '{"role": "assistant", "content": "a"}]}\n',
        "tokens": '{"tokens": [1, 2, 3], "loss": [0, 1, 0.5]}\n{"tokens": [4]}\n',
        "tokens-bool": '{"tokens": [1, 2], "loss": [true, false]}\n',
        "completion": '{"prompt": "p", "completion": "c"}\n',
        "question": '{"question": "q", "answer": "a"}\n',
        "alpaca": '{"instruction": "i", "input": "x", "output": "o"}\n',
        "sharegpt": '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}\n',
        "weight": '{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}\n',
        "loss-short": '{"tokens": [1, 2, 3], "loss": [1]}\n',
        "loss-negative": '{"tokens": [1], "loss": [-1]}\n',
        "token-negative": '{"tokens": [-1]}\n',
        "token-huge": '{"tokens": [99999999999999999999]}\n',
        "token-real": '{"tokens": [1.5]}\n',
        "no-role": '{"messages": [{"content": "x"}]}\n',
        "role-unknown": '{"messages": [{"role": "martian", "content": "x"}]}\n',
        "content-list": '{"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}\n',
        "messages-empty": '{"messages": []}\n',
        "unknown-keys": '{"text": "x", "id": 3, "meta": {"a": [1]}}\n',
        "not-object": '[1]\n"x"\nnull\n3\n',
        "cut": '{"text": "abc',
        "duplicate": '{"text": "a", "text": "b"}\n',
        "deep": '{"text": ' + "[" * 3000 + "\n",
        "nul": '{"text": "a\\u0000b"}\n',
        "surrogate": '{"text": "\\ud800"}\n',
        "utf8-bad": b'{"text": "\xff\xc0\xaf"}\n',
        "bom": b'\xef\xbb\xbf{"text": "a"}\n',
        "blank": "\n\n   \n{\"text\": \"a\"}\r\n",
    }
    for name, text in cases.items():
        put("jsonl", name, text)


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def tiny_tokenizer(pre, nfc):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    if nfc:
        t.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=["<|im_start|>", "<|im_end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    t.train_from_iterator(["the cat sat on the mat, then the other cat sat there"] * 4, trainer)
    return json.loads(t.to_str())


def tokenizers():
    split = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"),
                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    qwen = tiny_tokenizer(split, True)
    gpt2 = tiny_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False), False)
    smollm = tiny_tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False)]), False)
    small = json.loads(json.dumps(gpt2))
    small["model"]["vocab"] = {"a": 0, "b": 1, "ab": 2, "<|im_end|>": 3}
    small["model"]["merges"] = ["a b"]
    small["added_tokens"] = [dict(gpt2["added_tokens"][1], id=3)]

    def changed(**model):
        j = json.loads(json.dumps(small))
        j["model"].update(model)
        return j

    cases = {
        "qwen2": qwen, "gpt2": gpt2, "smollm": smollm, "small": small,
        "merge-pairs": changed(merges=[["a", "b"]]),
        "merge-missing": changed(merges=["a c"]),
        "merge-no-result": changed(merges=["b a"]),
        "merge-three": changed(merges=["a b c"]),
        "id-negative": changed(vocab={"a": -1}),
        "id-huge": changed(vocab={"a": 2147483647}),
        "id-twice": changed(vocab={"a": 0, "b": 0}),
        "vocab-list": changed(vocab=["a"]),
        "vocab-empty": changed(vocab={}, merges=[]),
        "type-unigram": changed(type="Unigram"),
        "byte-fallback": changed(byte_fallback=True),
        "dropout": changed(dropout=0.5),
        "no-model": {k: v for k, v in small.items() if k != "model"},
        "normalizer": dict(small, normalizer={"type": "Lowercase"}),
        "pre-unknown": dict(small, pre_tokenizer={"type": "Metaspace"}),
        "pattern-unknown": dict(small, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
                                                      "invert": False}),
        "added-out-of-range": dict(small, added_tokens=[dict(small["added_tokens"][0], id=10 ** 9)]),
        "added-empty": dict(small, added_tokens=[dict(small["added_tokens"][0], content="")]),
        "added-not-list": dict(small, added_tokens={}),
    }
    for name, j in cases.items():
        put("tokenizer_json", name, json.dumps(j, ensure_ascii=False, separators=(",", ":")))
    put("tokenizer_json", "cut", json.dumps(small)[:200])
    put("tokenizer_json", "empty", "{}")


def manifests():
    def whole(body):
        return body + '  "sha256": "' + hashlib.sha256(body.encode()).hexdigest() + '"\n}\n'
    head = '{\n  "format": "lorat-checkpoint",\n  "version": 1,\n  "step": 10,\n  "files": {'
    entry = '\n    "optimizer.safetensors": {"bytes": 12, "sha256": "' + "0a" * 32 + '"}'
    good = head + entry + "\n  },\n"
    cases = {
        "good": whole(good), "body": good, "no-files": whole(head + "\n  },\n"),
        "body-version": good.replace('"version": 1', '"version": 2'), "body-step": good.replace("10", "-1"),
        "body-name": good.replace("optimizer.safetensors", "../x"), "body-size": good.replace("12", "-12"),
        "body-huge": good.replace("12", "99999999999999999999"), "body-hash": good.replace("0a", "zz"),
        "body-unknown": good.replace('"step"', '"x": 1,\n  "step"'), "body-manifest": good.replace("optimizer.safetensors", "manifest.json"),
        "wrong-sum": whole(good).replace("10", "11"), "cut": whole(good)[:-20], "empty": "", "object": "{}",
    }
    for name, text in cases.items():
        put("manifest", name, text)


def seals():
    def seal(version=1, size=512, length=1000, magic=b"\x8fLORATD\n", tail=b""):
        front = magic + struct.pack("<IIQ", version, size, length) + bytes(range(32))
        return (front + hashlib.sha256(front).digest()[:8] + tail).ljust(512, b"\0")
    good = seal()
    cases = {"good": good, "version": seal(version=2), "size": seal(size=64), "length": seal(length=2 ** 64 - 1),
             "magic": seal(magic=b"\x89HDF\r\n\x1a\n"), "tail": seal(tail=b"x"), "flipped": good[:20] + b"\xff" + good[21:],
             "cut": good[:100], "eight": good[:8]}
    for name, data in cases.items():
        put("seal", name, data)


real_files()
yaml()
jsonl()
tokenizers()
manifests()
seals()
