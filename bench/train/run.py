"""Training here and in PyTorch in turns, same shapes: samples a second and peak memory.

    run.py [--altclip PROGRAM] [--texts FOLDER] [--threads N] [--rounds N] [--scratch FOLDER]
           [--stage stage1|stage2]... [--precision f32|bf16]...

FOLDER holds Multi30k (multi30k_train.en.gz, multi30k_train.de.gz). Each measurement is a process of its own; a
figure is the median of the steps of all rounds behind the first ones. Run it on an idle machine.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from setup import BATCH, BATCHES, ROOT, make

HERE, WARM, STEPS = Path(__file__).resolve().parent, 3, 8


def measured(command, env):
    """Output of a process and its peak memory in MB."""
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    output, errors = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command}: {errors[-2000:]}")
    return output, usage.ru_maxrss / 1024


def ours(altclip, work, scratch, stage, precision, threads):
    """Seconds a step. Stage 1 reads the teacher's answers of its first epoch; stage 2 sees each picture once."""
    out = scratch / "altclip-train-bench"
    shutil.rmtree(out, ignore_errors=True)
    first = BATCHES if stage == "stage1" else 0
    flags = ["--batch-size", BATCH, "--max-steps", first + STEPS, "--save-every", 1000, "--keep", 1, "--json"]
    flags += ["--out", out, "--precision", precision, "--threads", threads, "--ignore-check", "--lr", "1e-4"]
    if stage == "stage1":
        # The same order as the other engine; the first epoch fills the cache.
        kind = ["distill", "--teacher", work / "clip-b32", "--student", work / "student", "--pairs", work / "pairs.tsv"]
        cache = work / "teacher.rows"
        if cache.exists():
            (out / "cache").mkdir(parents=True)
            shutil.copy(cache, out / "cache" / "teacher.rows")
    else:
        pairs = ["--pairs", work / "captions.jsonl", "--images", work / "pictures"]
        kind = ["contrastive", "--model", work / "altclip", *pairs]
    _, memory = measured([altclip, "train", *kind, "--no-shuffle", *flags], os.environ)
    lines = (out / "timings.jsonl").read_text().split()
    if stage == "stage1":
        shutil.copy(out / "cache" / "teacher.rows", work / "teacher.rows")
    shutil.rmtree(out)
    return [json.loads(line)["seconds"] for line in lines][first + WARM :], memory


def theirs(work, stage, precision, threads):
    """Seconds a step of PyTorch."""
    command = [sys.executable, HERE / "peer.py", work, stage, precision, threads, STEPS]
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "TRANSFORMERS_VERBOSITY": "error"}
    output, memory = measured(command, env)
    return json.loads(output.splitlines()[-1])[WARM:], memory


def models(altclip, work):
    """The teacher and the AltCLIP of stage 2, from `altclip`'s own random start."""
    usual = ["--batch-size", "2", "--max-steps", "1", "--lr", "0", "--ignore-check"]
    if not (work / "clip-b32" / "model.safetensors").exists():
        kind = ["clip", "--config", work / "clip" / "config.json"]
        pairs = ["--pairs", work / "captions.jsonl", "--images", work / "pictures"]
        measured([altclip, "train", *kind, *pairs, "--out", work / "clip-b32", *usual], os.environ)
        shutil.rmtree(work / "clip-b32" / "checkpoints")
    if not (work / "altclip" / "model.safetensors").exists():
        kind = ["distill", "--teacher", work / "clip-b32", "--student", work / "student"]
        measured([altclip, "train", *kind, "--pairs", work / "pairs.tsv", "--out", work / "altclip", *usual], os.environ)
        shutil.rmtree(work / "altclip" / "checkpoints")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--altclip", default=ROOT / "target" / "release" / "altclip")
    parser.add_argument("--texts", type=Path, default=os.environ.get("ALTCLIP_TEST_DATA", "."))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--stage", action="append", choices=["stage1", "stage2"])
    parser.add_argument("--precision", action="append", choices=["f32", "bf16"])
    parser.add_argument("--scratch", type=Path, help="where runs are written to; a folder in memory saves time")
    parser.add_argument("--only-setup", action="store_true")
    args = parser.parse_args()
    work = ROOT / "build" / "train-bench"
    make(work, args.texts)
    models(args.altclip, work)
    if args.only_setup:
        return
    cases = [(s, p) for s in args.stage or ["stage1", "stage2"] for p in args.precision or ["f32", "bf16"]]
    found = {}
    for _ in range(args.rounds):
        for case in cases:
            rows = {"altclip": ours(args.altclip, work, args.scratch or work, *case, args.threads), "PyTorch": theirs(work, *case, args.threads)}
            for engine, (seconds, memory) in rows.items():
                steps, memories = found.setdefault((*case, engine), ([], []))
                steps.extend(seconds)
                memories.append(memory)
    print("| stage | precision | altclip, samples/s | PyTorch, samples/s | ratio | altclip, GB | PyTorch, GB |")
    print("|---|---|---|---|---|---|---|")
    for stage, precision in cases:
        speed = {e: BATCH / statistics.median(found[stage, precision, e][0]) for e in ("altclip", "PyTorch")}
        memory = {e: max(found[stage, precision, e][1]) / 1024 for e in ("altclip", "PyTorch")}
        ratio = speed["altclip"] / speed["PyTorch"]
        row = [f"{speed['altclip']:.1f}", f"{speed['PyTorch']:.1f}", f"{ratio:.2f}"]
        print("|", " | ".join([stage[-1], precision, *row, *(f"{m:.1f}" for m in memory.values())]), "|")


if __name__ == "__main__":
    main()
