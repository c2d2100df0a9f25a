#!/usr/bin/env python3
"""Golden values for tests/tensors, made by the PyPI packages gguf, numpy and safetensors.

    python3 tests/golden/make_dequant.py [model.gguf ...]

Writes into tests/golden/tensors/:
  dequant.gguf         one small tensor of every type that lorat reads, quantised by the gguf package from random numbers,
                       and blocks of random bytes (every nibble and scale pattern)
  dequant.f32          the same tensors as float32, one after another in file order, dequantised by the gguf package
  dequant.bf16         those values rounded to bfloat16 by numpy (round to nearest even)
  <model>.sha256.json  for each model given: tensor name -> SHA-256 of its dequantised float32 bytes
  small.safetensors    written by the PyPI safetensors
"""
import hashlib
import json
import os
import sys

import numpy as np
import gguf
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tensors")
Q = gguf.GGMLQuantizationType


def bf16(x):
    u = x.view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def random_blocks(rng, qtype, rows, blocks):
    """Random bytes, with the F16 scales kept finite."""
    size = gguf.GGML_QUANT_SIZES[qtype][1]
    raw = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    n_half = {Q.Q8_0: 1, Q.Q4_0: 1, Q.Q4_1: 2}[qtype]
    for i in range(n_half):
        raw[:, :, 2 * i + 1] &= 0xFB  # an exponent that is not all ones: never Inf or NaN
    return raw.reshape(rows, blocks * size)


def write_dequant():
    rng = np.random.default_rng(1)
    path = os.path.join(HERE, "dequant.gguf")
    w = gguf.GGUFWriter(path, "llama")
    w.add_uint32("test.u32", 4000000000)
    w.add_int64("test.i64", -5)
    w.add_float32("test.f32", 0.5)
    w.add_float64("test.f64", 0.1)
    w.add_bool("test.bool", True)
    w.add_string("test.string", "gr\u00fc\u00dfe")
    w.add_array("test.strings", ["a", "", "ccc"])
    w.add_array("test.ints", [1, -2, 3])
    w.add_array("test.floats", [0.25, -1.5])
    values = []
    for t in (Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1):
        x = (rng.standard_normal((6, 96)) * np.exp(rng.uniform(-12, 3, (6, 1)))).astype(np.float32)
        if t == Q.F16:
            x[0, :4] = [0.0, -0.0, 65504.0, 6e-8]
        raw = quantize(x, t)
        w.add_tensor(f"quantised.{t.name}", raw, raw_dtype=t)
        values.append(dequantize(raw, t).astype(np.float32))
    for t in (Q.Q8_0, Q.Q4_0, Q.Q4_1):
        raw = random_blocks(rng, t, 16, 3)
        w.add_tensor(f"random.{t.name}", raw, raw_dtype=t)
        values.append(dequantize(raw, t).astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    flat = np.concatenate([v.reshape(-1) for v in values])
    assert np.isfinite(flat).all()
    flat.tofile(os.path.join(HERE, "dequant.f32"))
    bf16(flat).tofile(os.path.join(HERE, "dequant.bf16"))


def write_hashes(model):
    hashes = {}
    for t in gguf.GGUFReader(model).tensors:
        x = np.ascontiguousarray(dequantize(t.data, t.tensor_type).astype(np.float32))
        hashes[t.name] = hashlib.sha256(x.tobytes()).hexdigest()
    name = os.path.splitext(os.path.basename(model))[0] + ".sha256.json"
    with open(os.path.join(HERE, name), "w") as f:
        json.dump(hashes, f, indent=0, sort_keys=True)
        f.write("\n")


def write_safetensors():
    x = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
    save_file({"b.f16": x.astype(np.float16), "a.f32": x, "c.i64": np.arange(3), "d.scalar": np.array(7, np.float32),
               "e.empty": np.zeros((0, 4), np.float32), "f.u8": np.arange(5, dtype=np.uint8)},
              os.path.join(HERE, "small.safetensors"), metadata={"format": "np"})


os.makedirs(HERE, exist_ok=True)
write_dequant()
write_safetensors()
for path in sys.argv[1:]:
    write_hashes(path)
