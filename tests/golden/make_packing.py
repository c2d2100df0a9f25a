#!/usr/bin/env python3
"""Order and packing as docs/data-format.md describes them, in plain Python: writes packing.json, which tests/data/test_packing.c compares with
the rows that the loader makes. Needs nothing but Python 3.

usage: make_packing.py OUT"""
import hashlib
import json
import sys

M32 = 0xFFFFFFFF


def philox(key, counter):
    k0, k1 = key & M32, key >> 32 & M32
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & M32, (p0 >> 32) ^ c3 ^ k1, p0 & M32
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return c0, c1, c2, c3


def permute(seed, epoch, n, i):
    if n <= 1:
        return 0
    half = 1
    while 4 ** half < n:
        half += 1
    mask = 2 ** half - 1
    while True:
        left, right = i >> half, i & mask
        for r in range(6):
            left, right = right, left ^ (philox(seed, (right, r, epoch, 2))[0] & mask)
        i = left << half | right
        if i < n:
            return i


def pieces_of(lengths, limit, too_long):
    """(document, first token in the document, tokens)"""
    out = []
    for d, n in enumerate(lengths):
        if n <= limit:
            out.append((d, 0, n))
        elif too_long == "split":
            out += [(d, at, min(limit, n - at)) for at in range(0, n, limit)]
        elif too_long == "truncate":
            out.append((d, 0, limit))
    return out


def pack(pieces, limit, open_rows=64):
    rows, opened = [], []
    used = lambda row: sum(p[2] for p in row)
    for p in pieces:
        fit = [row for row in opened if used(row) + p[2] <= limit]
        if fit:
            fit[0].append(p)
        else:
            if len(opened) == open_rows:
                fullest = max(opened, key=used)  # the first of equals
                opened.remove(fullest)
                rows.append(fullest)
            opened.append([p])
        for row in [row for row in opened if used(row) == limit]:
            opened = [o for o in opened if o is not row]
            rows.append(row)
    return rows + opened


def lengths_of(n, limit):
    x, out = 12345, []
    for _ in range(n):
        x = (x * 1664525 + 1013904223) & M32
        out.append(1 + (x >> 16) % limit)
    return out


def main():
    cases = []
    for documents, longest, limit, seed, too_long, shuffle, packing in (
            (1, 3, 8, 0, "split", True, True), (2, 5, 8, 1, "split", True, True), (40, 30, 16, 3, "split", True, True),
            (700, 20, 64, 9, "split", True, True), (700, 20, 64, 9, "split", False, True), (2100, 90, 64, 2 ** 40 + 5, "split", True, True),
            (2100, 90, 64, 7, "drop", True, True), (1500, 90, 64, 7, "truncate", True, True), (1500, 60, 64, 7, "split", True, True),
            (1100, 90, 64, 7, "split", True, False), (1025, 33, 40, 7, "truncate", True, False)):
        lengths = lengths_of(documents, longest)
        pieces = pieces_of(lengths, limit, too_long)
        for epoch in (0, 1, 5):
            n = len(pieces)
            order = [pieces[permute(seed, epoch, n, i) if shuffle else i] for i in range(n)]
            rows = pack(order, limit) if packing else [[p] for p in order]
            assert sorted(p for row in rows for p in row) == sorted(pieces)
            text = "".join(" ".join("%d:%d+%d" % p for p in row) + "\n" for row in rows)
            cases.append({"documents": documents, "longest": longest, "sequence_length": limit, "seed": seed, "too_long": too_long,
                          "shuffle": shuffle, "packing": packing, "epoch": epoch, "pieces": n, "rows": len(rows), "first": text[:120].split("\n")[0],
                          "sha256": hashlib.sha256(text.encode()).hexdigest()})
    with open(sys.argv[1], "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
