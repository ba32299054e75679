"""The results as a picture: one panel for each case, one bar for each engine and precision.

    chart.py [RESULTS] [PICTURE]

Plain SVG without a library; its colours follow the reader's light or dark mode.
"""

import argparse
from html import escape
from pathlib import Path

from export import ROOT
from results import NAMES, ORDER, grouped, read

DOCS = Path(__file__).resolve().parents[2] / "docs"
LEFT, BAR_AREA, RIGHT, TOP = 150, 250, 80, 70
PANEL = LEFT + BAR_AREA + RIGHT
BAR, STEP, GAP, HEAD, FOOT = 13, 17, 8, 30, 22
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; } .head { font-size: 13px; font-weight: 600; }
  .note { fill: #59636e; } .ours { font-weight: 700; }
  .altclip { fill: #bc4c00; } .openvino { fill: #0969da; } .onnxruntime { fill: #1a7f37; } .pytorch { fill: #8250df; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .note { fill: #9198a1; }
    .altclip { fill: #f0883e; } .openvino { fill: #58a6ff; } .onnxruntime { fill: #3fb950; } .pytorch { fill: #bc8cff; }
  }
"""


def text(x, y, words, style="", anchor="start"):
    """A piece of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>'


def duration(seconds):
    """Three significant digits of milliseconds or seconds."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def bar(x, y, row, longest):
    """The name, the bar and the value of one row."""
    width = max(1, BAR_AREA * row["seconds_per_item"] / longest)
    style = "ours" if row["engine"] == "altclip" else ""
    name = f"{NAMES[row['engine']]} {row['precision']}"
    return [
        text(x + LEFT - 8, y + BAR - 3, name, style, "end"),
        f'<rect x="{x + LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" class="{row["engine"]}"/>',
        text(x + LEFT + width + 6, y + BAR - 3, duration(row["seconds_per_item"]), style),
    ]


def panel(x, y, title, precisions):
    """One case, the precisions under each other; gives its parts and its lower edge."""
    longest = max(row["seconds_per_item"] for engines in precisions.values() for row in engines.values())
    parts = [text(x + 20, y + 16, title, "head")]
    y += HEAD
    for precision in sorted(precisions, key=ORDER.index):
        engines = precisions[precision]
        for name in filter(engines.get, NAMES):
            parts += bar(x, y, engines[name], longest)
            y += STEP
        y += GAP
    return parts, y + FOOT - GAP


def draw(rows):
    """The whole picture, two panels in a line."""
    groups, parts, y = grouped(rows), [], TOP
    several = len({arch for arch, _ in groups}) > 1
    cases = [(f"{arch}: {case}" if several else case, found) for (arch, case), found in groups.items()]
    for start in range(0, len(cases), 2):
        made = [panel(column * PANEL, y, *case) for column, case in enumerate(cases[start : start + 2])]
        parts += [part for found, _ in made for part in found]
        y = max(bottom for _, bottom in made)
    threads = ", ".join(sorted({str(row["threads"]) for row in rows}))
    caption = f"Random weights of the published shapes, {threads} threads; each panel has a scale of its own."
    first = [text(20, 28, "Time per picture or text (shorter is better)", "title"), text(20, 48, caption, "note")]
    size = f'width="{2 * PANEL}" height="{y}" viewBox="0 0 {2 * PANEL} {y}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{STYLE}</style>'
    return "\n".join([opening, *first, *parts, "</svg>\n"])


def main():
    """Read the results, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=ROOT / "results.jsonl")
    parser.add_argument("picture", type=Path, nargs="?", default=DOCS / "benchmarks.svg")
    args = parser.parse_args()
    args.picture.write_text(draw(read(args.results)))
    print(args.picture)


if __name__ == "__main__":
    main()
