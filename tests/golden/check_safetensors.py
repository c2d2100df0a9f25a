#!/usr/bin/env python3
"""The PyPI safetensors reads what lorat wrote. Exit 77 without that package.

    python3 tests/golden/check_safetensors.py

tests/golden/tensors/exported.safetensors is what hf_export writes in tests/tensors/test_hf_export.c (which checks that the bytes
are still these); the values here are computed again from that test's formula.
"""
import os
import struct
import sys

try:
    from safetensors import deserialize
except ImportError:
    print("skipped: the Python package safetensors is not installed")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
WANT = [("model.norm.weight", "F32", [77]), ("a.b", "F16", [5, 3]), ("scalar", "F32", []), ("none", "BF16", [0, 4])]


def value(i, at):
    return ((at * 7 + i * 13) % 1001 - 500) / 300.0


with open(os.path.join(HERE, "tensors", "exported.safetensors"), "rb") as f:
    found = dict(deserialize(f.read()))
assert set(found) == {name for name, _, _ in WANT}, found.keys()
for i, (name, dtype, shape) in enumerate(WANT):
    t = found[name]
    count = 1
    for size in shape:
        count *= size
    assert t["dtype"] == dtype and list(t["shape"]) == shape, (name, t["dtype"], t["shape"])
    letter = {"F32": "f", "F16": "e", "BF16": "H"}[dtype]
    want = struct.pack(f"<{count}{letter}", *[value(i, k) for k in range(count)])
    assert bytes(t["data"]) == want, name
print(f"{len(WANT)} tensors read by the Python library, values as written")
