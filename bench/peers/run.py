"""Ours and the peers in turns, so that a slow minute of the machine falls on all of them.

    run.py [--altclip PROGRAM] [--arch altclip|altclip-m18] [--rounds N]
           [--case NAME]... [--engine NAME]... [--out FILE]

In each round every engine is loaded, warmed up, timed and dropped; one is in
memory at a time. A row is the median over all rounds, in seconds per picture
or text. Run it on an idle machine. The rows are added to FILE (JSON Lines)
and the whole file is printed as a table with the ratio best peer / ours.
"""

import argparse
import ctypes
import gc
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

import ours
import results
from cases import CASES, batches
from engines import ENGINES
from export import ROOT
from towers import ARCHS

WARM_SECONDS, TIMED_SECONDS, MOST_PASSES = 5, 3, 5


def one_pass(call, inputs):
    """Seconds of one pass over the batches of a case."""
    start = time.perf_counter()
    for batch in inputs:
        call(*batch)
    return time.perf_counter() - start


def warm(call, inputs):
    """Every batch once, or as many as there is time for: first calls make and pack things."""
    end = time.perf_counter() + WARM_SECONDS
    for batch in inputs:
        call(*batch)
        if time.perf_counter() > end:
            return


def turn(load, arch, case, threads):
    """One engine's turn: the seconds per item of each timed pass."""
    inputs, call = batches(case), load(arch, case, threads)
    warm(call, inputs)
    end, found = time.perf_counter() + TIMED_SECONDS, []
    while len(found) < MOST_PASSES and (not found or time.perf_counter() < end):
        found.append(one_pass(call, inputs) / case.items)
    return found


def tidy():
    """Give the memory of the engine that was dropped back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def peer_turns(args, case, samples):
    """One round of the peers."""
    for (engine, precision), load in ENGINES.items():
        if args.engine and engine not in args.engine:
            continue
        try:
            samples.setdefault((engine, precision), []).extend(turn(load, args.arch, case, args.threads))
        except Exception as error:
            print(f"{engine} {precision}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        tidy()


def our_turns(args, case, samples):
    """One round of ours; a precision that the program does not have is passed over."""
    for precision in results.ORDER if args.altclip else ():
        seconds, reason = ours.measure(args.altclip, args.arch, case, precision, args.threads)
        if seconds is None:
            print(f"altclip {precision}: {reason}", file=sys.stderr)
        else:
            samples.setdefault((ours.ENGINE, precision), []).append(seconds)


def measure(args, case):
    """The rows of one case."""
    samples = {}
    for _ in range(args.rounds):
        our_turns(args, case, samples)
        peer_turns(args, case, samples)
    for (engine, precision), found in samples.items():
        if found:
            yield {
                "engine": engine, "precision": precision, "arch": args.arch, "tower": case.tower,
                "batch": case.batch, "tokens": case.tokens, "threads": args.threads,
                "seconds_per_item": round(statistics.median(found), 6),
                "fastest": round(min(found), 6), "slowest": round(max(found), 6), "runs": len(found),
            }  # fmt: skip


def parse():
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--altclip", metavar="PROGRAM", help="our program; without it only the peers run")
    parser.add_argument("--arch", choices=ARCHS, default="altclip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="all if not given")
    parser.add_argument("--engine", action="append", choices=sorted({engine for engine, _ in ENGINES}))
    parser.add_argument("--out", type=Path, default=ROOT / "results.jsonl")
    return parser.parse_args()


def main():
    """Measure what was asked for, write it, print it."""
    warnings.simplefilter("ignore")
    args = parse()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        if args.case and case.name not in args.case:
            continue
        print(f"{case.name} …", file=sys.stderr)
        with args.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in measure(args, case))
    print(results.table(results.read(args.out)))


if __name__ == "__main__":
    main()
