"""Golden numbers for trainer/compare_stats.c, computed anew with numpy from the descriptions in compare.h. Prints bootstrap_golden.h:

    python3 tests/compare/make_bootstrap.py > tests/compare/bootstrap_golden.h

Shared with the C program is only what makes the draws equal: Philox4x32-10 and how its words choose blocks."""
import numpy as np

SEED, PURPOSE, REPLICATES, MAX_BLOCK = 20240229, 4, 2000, 1000
MASK = 0xFFFFFFFF


def philox(key, counter):
    k0, k1 = key & MASK, key >> 32
    c = list(counter)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & MASK, (p0 >> 32) ^ c[3] ^ k1, p0 & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c


def block_length(x):
    n = len(x)
    least = 1
    while least**3 < n:
        least += 1
    most = min(max(n // 4, 1), MAX_BLOCK)
    d = x - x.mean()
    limit = 2 / np.sqrt(n) * np.mean(d * d)
    lag = 1
    while 2 * lag < most and np.dot(d[:-lag], d[lag:]) / n >= limit:
        lag += 1
    return min(max(2 * lag, least), most)


def medians(x, number):
    n, length = len(x), block_length(x)
    starts = n - length + 1
    blocks = -(-n // length)
    out = np.empty(REPLICATES)
    for r in range(REPLICATES):
        words = [w for b in range(-(-blocks // 4)) for w in philox(SEED, [r, number, b, PURPOSE])][:blocks]
        index = np.concatenate([np.arange(s, s + length) for s in [(w * starts) >> 32 for w in words]])[:n]
        out[r] = np.median(x[index])
    return out


def bootstrap(a, b):
    d = medians(b, 1) / medians(a, 0) - 1
    return np.median(b) / np.median(a) - 1, *np.quantile(d, [0.025, 0.975])


def show(name, x):
    lines = [", ".join(f"{v:.6f}" for v in x[i : i + 10]) for i in range(0, len(x), 10)]
    print(f"static const double {name}[] = {{\n    " + ",\n    ".join(lines) + "};")


def main():
    g = np.random.default_rng(7)
    steady = np.round(1000 + 5 * g.standard_normal(57), 6)
    faster = np.round(1040 + 8 * g.standard_normal(64), 6)
    alike = np.round(1001 + 20 * g.standard_normal(60), 6)
    wave = np.empty(120)  # a machine that is slow for some time, again and again
    wave[0] = 1000
    for i in range(1, 120):
        wave[i] = 1000 + 0.9 * (wave[i - 1] - 1000) + 10 * g.standard_normal()
    wave = np.round(wave, 6)
    cases = {"steady": steady, "faster": faster, "alike": alike, "wave": wave}
    print("/* Made by tests/compare/make_bootstrap.py; do not edit. */")
    for name, x in cases.items():
        show(name, x)
    print("static const struct {\n    const char *name;\n    const double *x;\n    size_t n, block;\n    double p10, median, p90;\n} golden_series[] = {")
    for name, x in cases.items():
        p = np.quantile(x, [0.1, 0.5, 0.9])
        print(f'    {{"{name}", {name}, {len(x)}, {block_length(x)}, {p[0]:.17g}, {p[1]:.17g}, {p[2]:.17g}}},')
    print("};\nstatic const struct {\n    int a, b;\n    double difference, low, high;\n} golden_pairs[] = {")
    names = list(cases)
    for a, b in [("steady", "faster"), ("steady", "alike"), ("steady", "wave"), ("wave", "faster"), ("faster", "steady"), ("wave", "wave")]:
        d, low, high = bootstrap(cases[a], cases[b])
        print(f"    {{{names.index(a)}, {names.index(b)}, {d:.17g}, {low:.17g}, {high:.17g}}}, /* {b} against {a} */")
    print("};")


main()
