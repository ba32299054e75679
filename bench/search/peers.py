"""numpy and faiss on the vectors of `examples/scan.rs`: python bench/search/peers.py DIR WIDTH

Both search all rows exactly for one query at a time, the ten best; the best of several rounds in turns.
"""

import json
import sys
import time

import faiss
import numpy as np

ROUNDS, TOP = 5, 10


def main() -> None:
    folder, width = sys.argv[1], int(sys.argv[2])
    half = np.fromfile(f"{folder}/rows.f16", np.float16).reshape(-1, width)
    queries = np.fromfile(f"{folder}/queries.f32", np.float32).reshape(-1, width)
    rows = half.astype(np.float32)
    flat = faiss.IndexFlatIP(width)
    flat.add(rows)
    halves = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    halves.train(rows[:1000])
    halves.add(rows)

    def numpy_f32(query: np.ndarray) -> None:
        scores = rows @ query
        best = np.argpartition(scores, -TOP)[-TOP:]
        best[np.argsort(-scores[best])]

    works = {
        "numpy_f32": numpy_f32,
        "faiss_flat": lambda query: flat.search(query[None], TOP),
        "faiss_fp16": lambda query: halves.search(query[None], TOP),
    }
    best = dict.fromkeys(works, float("inf"))
    for turn in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work(queries[turn % len(queries)])
            best[name] = min(best[name], time.perf_counter() - start)
    figures = {f"{name}_ms": 1e3 * seconds for name, seconds in best.items()}
    print(json.dumps({"rows": len(rows), "threads": faiss.omp_get_max_threads(), **figures}))


if __name__ == "__main__":
    main()
