"""The file as another program sees it, and a file that another program wrote: run by ctest, skipped without h5py.

usage: h5py_check.py write FILE | read FILE"""
import sys

try:
    import h5py
    import numpy as np
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)


def token(d, i):
    return (d * 37 + i * 11) % 997


def read(path):
    lengths = [5, 1, 9000, 17]
    with h5py.File(path, "r") as f:
        assert f.userblock_size == 512
        assert f.attrs["format"] == 1 and f.attrs["vocab"] == 997 and f.attrs["tokenizer"] == "unknown" or f.attrs["tokenizer"] == b"unknown"
        g = f["train"]
        offsets = g["offsets"][:]
        assert offsets.dtype == np.uint64 and list(np.diff(offsets)) == lengths and g.attrs["documents"] == 4
        assert g["tokens"].dtype == np.int32 and g["weights"].dtype == np.float32
        assert g["tokens"].chunks == (8192,) and g["tokens"].shuffle and g["tokens"].compression == "gzip"
        for d, n in enumerate(lengths):
            assert [token(d, i) for i in range(n)] == g["tokens"][offsets[d]:offsets[d + 1]].tolist()
            assert [float(i > 0 and (d + i) % 3 != 0) for i in range(n)] == g["weights"][offsets[d]:offsets[d + 1]].tolist()


def write(path):
    with h5py.File(path, "w") as f:
        g = f.create_group("train")
        g["tokens"] = np.arange(100, dtype=np.int32)
        g.create_dataset("weights", data=np.ones(100, dtype=np.float32), compression="gzip")
        g["offsets"] = np.array([0, 40, 100], dtype=np.uint64)
        f.attrs["tokenizer"] = "a string of variable size, which is not read"


{"read": read, "write": write}[sys.argv[1]](sys.argv[2])
