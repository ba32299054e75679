"""Our engine as one more engine: the program's own `bench` command, one process for each turn."""

import json
import subprocess

from cases import LONGEST, MIXED_BATCH, SHORTEST, TEXTS

ENGINE = "altclip"


def command(program, arch, case, precision):
    """The command line of one case; texts of mixed lengths are made by the program itself."""
    line = [program, "bench", "--arch", arch, "--tower", case.tower, "--precision", precision]
    if case.mixed:
        line += ["--lengths", f"{SHORTEST}..{LONGEST}", "--texts", str(TEXTS), "--batch", str(MIXED_BATCH)]
    else:
        line += ["--batch", str(case.batch), "--tokens", str(case.tokens)]
    return [*map(str, line), "--json"]


def lines(text):
    """The JSON objects among the lines of a program's output."""
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def fits(row, case, precision, threads):
    """Whether a line is about what was asked for; a program may fall back to something else."""
    asked = {"tower": case.tower, "precision": precision, "batch": case.batch, "threads": threads}
    return all(row.get(name) == value for name, value in asked.items())


def measure(program, arch, case, precision, threads):
    """Seconds per item as the program reports them; None, with the reason, where it reports nothing."""
    try:
        done = subprocess.run(command(program, arch, case, precision), capture_output=True, text=True)
    except OSError as error:
        return None, str(error)
    found = [row["seconds_per_item"] for row in lines(done.stdout) if fits(row, case, precision, threads)]
    if done.returncode or not found:
        reason = done.stderr.strip().splitlines() or [f"status {done.returncode}, no line for this case"]
        return None, reason[0]
    return found[0], None
