"""The results file: JSON Lines, later lines of the same row replace earlier ones; and its table."""

import json

from ours import ENGINE

ORDER = ("f32", "bf16", "int8")
NAMES = {"altclip": "altclip", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}


def key(row):
    """What makes two lines the same row."""
    return tuple(row.get(name) for name in ("arch", "tower", "batch", "tokens", "precision", "engine"))


def read(path):
    """The newest line of every row."""
    rows = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows[key(row)] = row
    return list(rows.values())


def title(row):
    """A case in words."""
    batch, tokens = row["batch"], row["tokens"]
    if row["tower"] == "image":
        return "one picture" if batch == 1 else f"pictures, batch of {batch}"
    if isinstance(tokens, str):
        order = ", sorted by length" if tokens.endswith("sorted") else ""
        return f"texts of 5 to 77 tokens, batches of {batch}{order}"
    return f"one text of {tokens} tokens" if batch == 1 else f"texts of {tokens} tokens, batch of {batch}"


def grouped(rows):
    """(arch, case) → precision → engine → row, in the order of the file."""
    groups = {}
    for row in rows:
        case = groups.setdefault((row["arch"], title(row)), {})
        case.setdefault(row["precision"], {})[row["engine"]] = row
    return groups


def best_peer(engines):
    """The fastest row that is not ours, or None."""
    peers = [row for name, row in engines.items() if name != ENGINE]
    return min(peers, key=lambda row: row["seconds_per_item"], default=None)


def cell(engines, name):
    """Milliseconds of an engine, or a dash."""
    return f"{engines[name]['seconds_per_item'] * 1000:.2f}" if name in engines else "–"


def ratio(engines):
    """How many times faster we are than the best peer of the same precision, and which that is."""
    best = best_peer(engines)
    if best is None or ENGINE not in engines:
        return "–"
    return f"{best['seconds_per_item'] / engines[ENGINE]['seconds_per_item']:.2f} ({NAMES[best['engine']]})"


def table(rows):
    """Milliseconds per item as a Markdown table, with the ratio best peer / ours."""
    out = [f"| ms per item | precision | {' | '.join(NAMES.values())} | best peer / altclip |", "|---" * 7 + "|"]
    for (arch, case), precisions in grouped(rows).items():
        for precision in sorted(precisions, key=ORDER.index):
            engines = precisions[precision]
            cells = " | ".join(cell(engines, name) for name in NAMES)
            out.append(f"| {arch}: {case} | {precision} | {cells} | {ratio(engines)} |")
    return "\n".join(out)
