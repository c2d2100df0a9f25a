"""Golden values of rng_permute for test_rng.c, from a second implementation in whole numbers of Python.

Run: python3 tests/base/permute_golden.py
"""

MASK = 0xFFFFFFFF


def philox(key, c):
    k0, k1 = key & MASK, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & MASK, (p0 >> 32) ^ c[3] ^ k1, p0 & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c


def permute(seed, stream, n, i):
    if n == 1:
        return 0
    half = ((n - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = i >> half, i & mask
        for r in range(6):
            f = philox(seed, [right, r, stream & MASK, stream >> 32])[0]
            left, right = right, left ^ (f & mask)
        i = left << half | right
        if i < n:
            return i


if __name__ == "__main__":
    for seed, stream, n, i in [
        (0, 0, 10, 0), (0, 0, 10, 9), (1, 0, 10, 0), (0, 1, 10, 0), (42, 7, 1000003, 5), (42, 7 << 32, 1000003, 5),
        (2**64 - 1, 2**64 - 1, 2**40 + 1, 2**40), (3, 5, 2**64 - 1, 12345), (3, 5, 2**63 + 1, 2**63),
    ]:
        print(f"    {{{seed}u, {stream}u, {n}u, {i}u, {permute(seed, stream, n, i)}u}},")
