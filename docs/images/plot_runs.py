#!/usr/bin/env python3
"""Draw the loss of a run as a small SVG, from its metrics.jsonl. Standard library only.

usage: plot_runs.py RUN_FOLDER OUT.svg [--title TEXT] [--max LOSS]

Grey: the loss of each training step. Blue: its mean over a twentieth of the run. Orange: evaluation loss. Red: skipped steps.
"""
import argparse
import html
import json
import math
import pathlib

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 280, 46, 12, 30, 34


def read(folder):
    """Training and evaluation loss by step, and the skipped steps; the last line of a step wins, as after a resume."""
    train, evals, skipped = {}, {}, set()
    for line in (pathlib.Path(folder) / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "eval_loss" in row:
            evals[row["step"]] = row["eval_loss"]
            continue
        train[row["step"]] = row["loss"]
        (skipped.add if row.get("skipped") else skipped.discard)(row["step"])
    return sorted(train.items()), sorted(evals.items()), sorted(skipped)


def smooth(points, width):
    out = []
    for i, (step, _) in enumerate(points):
        window = [v for _, v in points[max(0, i - width + 1) : i + 1] if v is not None]
        out.append((step, sum(window) / len(window) if window else None))
    return out


def ticks(low, high, n):
    step = 10 ** math.floor(math.log10(max(high - low, 1e-9) / n))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= n), 10)
    first = math.ceil(low / step) * step
    return [first + i * step for i in range(int((high - first) / step + 1e-9) + 1)]


def draw(folder, title, top):
    train, evals, skipped = read(folder)
    seen = [v for _, v in train + evals if v is not None]
    top = top or max(seen) * 1.05
    last = max(step for step, _ in train)

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(loss):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(loss, top) / top)

    def path(points, style):
        text, pen = "", "M"
        for step, loss in points:
            if loss is None:
                pen = "M"
                continue
            text += f"{pen}{x(step):.1f} {y(loss):.1f}"
            pen = "L"
        return f'<path d="{text}" fill="none" {style}/>'

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="13" fill="#222">{html.escape(title)}</text>',
    ]
    for v in ticks(0, top, 6):
        out.append(f'<path d="M{LEFT} {y(v):.1f}H{WIDTH - RIGHT}" stroke="#e4e4e4"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end" fill="#555">{v:g}</text>')
    for v in ticks(0, last, 8):
        out.append(f'<text x="{x(v):.1f}" y="{HEIGHT - 16}" text-anchor="middle" fill="#555">{v:g}</text>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end" fill="#555">step</text>')
    out.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#888"/>')
    out.append(path(train, 'stroke="#bbb"'))
    out.append(path(smooth(train, max(1, len(train) // 20)), 'stroke="#1f6fb2" stroke-width="2"'))
    out.append(path(evals, 'stroke="#d9730d" stroke-width="2"'))
    for step, loss in evals:
        if loss is not None:
            out.append(f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" r="3" fill="#d9730d"/>')
    for step in skipped:
        out.append(f'<path d="M{x(step):.1f} {HEIGHT - BOTTOM}v-12" stroke="#c22" stroke-width="3"/>')
    names = [("training", "#1f6fb2"), ("evaluation", "#d9730d")] + ([("skipped", "#c22")] if skipped else [])
    for i, (name, colour) in enumerate(names):
        at = WIDTH - RIGHT - 96 * (len(names) - i)
        out.append(f'<path d="M{at} 14h14" stroke="{colour}" stroke-width="3"/><text x="{at + 18}" y="18" fill="#222">{name}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("out")
    parser.add_argument("--title", default="loss")
    parser.add_argument("--max", type=float, default=0)
    a = parser.parse_args()
    pathlib.Path(a.out).write_text(draw(a.run, a.title, a.max))


main()
