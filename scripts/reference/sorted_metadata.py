"""One order for what safetensors writes in any."""

import json


def sort_metadata(path):
    """Put the metadata in one order, so that the same numbers give the same file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:end])
    fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    path.write_bytes(data[:8] + text.ljust(end - 8) + data[end:])
