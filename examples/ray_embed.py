"""Webdataset shards to vectors in Parquet, with Ray Data: one model an actor, any number of machines.

    python examples/ray_embed.py --model BAAI/AltCLIP --workers 8 --out vectors 'shards/*.tar'

Every worker loads the model once. A picture that cannot be read becomes a row without a vector. The folder gets columns
`key`, `caption`, `image_embedding` and, where there are captions, `text_embedding`.
"""

import argparse
import glob
import io
import json
import os
import tarfile
import time
from pathlib import Path

IMAGES = ("jpg", "jpeg", "png", "webp")


class Embed:
    """An actor: pictures and captions of a batch to rows."""

    def __init__(self, model, precision, threads):
        import altclip

        self.altclip = altclip
        self.model = altclip.load(model, precision, threads=threads)

    def __call__(self, batch):
        import numpy as np

        rows = self.model.iter_image(batch["image"], on_error="return")
        none = np.full(self.model.embedding_dim, np.nan, np.float32)
        images = [none if isinstance(row, self.altclip.AltClipError) else row for row in rows]
        texts = self.model.encode_text([caption or "" for caption in batch["caption"]])
        return {"key": batch["key"], "caption": batch["caption"], "image_embedding": np.stack(images),
                "text_embedding": texts}  # fmt: skip


def samples(path):
    """The samples of a shard: members with one name make one."""
    found = {}
    with tarfile.open(path) as shard:
        for member in shard:
            key, _, ending = member.name.partition(".")
            if member.isfile() and ending in (*IMAGES, "txt"):
                found.setdefault(key, {})["image" if ending in IMAGES else "caption"] = shard.extractfile(member).read()
    for key, sample in found.items():
        if "image" in sample:
            yield {
                "key": key,
                "image": sample["image"],
                "caption": sample.get("caption", b"").decode("utf-8", "replace"),
            }


def write_shards(folder, pictures, count):
    """Small shards to try it on: `{name: bytes of a PNG}`."""
    Path(folder).mkdir(parents=True)
    paths = [str(Path(folder) / f"{n:05}.tar") for n in range(count)]
    for n, path in enumerate(paths):
        with tarfile.open(path, "w") as shard:
            for name, data in list(pictures.items())[n::count]:
                for ending, content in (("png", data), ("txt", name.encode())):
                    member = tarfile.TarInfo(f"{name.replace(' ', '_')}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--model", required=True)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--out", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=1, help="read the shards so often, to measure")
    args = parser.parse_args()

    import ray

    # Numbers of a local Ray; on a cluster ray.init() finds it.
    ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else max(args.workers * args.threads + 1, 2),
             include_dashboard=False, log_to_driver=False)  # fmt: skip
    paths = sorted(path for pattern in args.shards for path in glob.glob(pattern) or [pattern]) * args.repeat
    start = time.perf_counter()
    shards = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths))
    vectors = (
        shards.flat_map(lambda row: samples(row["path"]))
        .map_batches(
            Embed, fn_constructor_args=(os.path.expanduser(args.model), args.precision, args.threads),
            batch_size=args.batch_size, num_cpus=args.threads,
            compute=ray.data.ActorPoolStrategy(size=args.workers),
        )
    )  # fmt: skip
    vectors.write_parquet(args.out)
    seconds = time.perf_counter() - start
    rows = ray.data.read_parquet(args.out).count()
    print(json.dumps({"rows": rows, "workers": args.workers, "seconds": round(seconds, 2),
                      "rows_per_second": round(rows / seconds, 1)}))  # fmt: skip


if __name__ == "__main__":
    main()
