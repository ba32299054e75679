"""Makes crates/train/tests/events.hex with TensorBoard's own messages and record writer.

    pip install tensorboard==2.21.0 && python events.py            # writes the file
    python events.py DIR                                           # prints what TensorBoard reads there
"""

import io
import pathlib
import sys

import google.protobuf
import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1_700_000_000.0
TARGET = pathlib.Path(__file__).parents[2] / "crates/train/tests/events.hex"


def make() -> str:
    values = [
        Summary.Value(tag="train/loss", simple_value=2.5),
        Summary.Value(tag="eval/top1", simple_value=0.75),
    ]
    events = [
        Event(wall_time=TIME, file_version="brain.Event:2"),
        Event(wall_time=TIME, step=101, session_log=SessionLog(status=SessionLog.START)),
        Event(wall_time=TIME, step=101, summary=Summary(value=values)),
    ]
    out = io.BytesIO()
    writer = RecordWriter(out)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return out.getvalue().hex()


if len(sys.argv) > 1:
    accumulator = EventAccumulator(sys.argv[1])
    accumulator.Reload()
    for tag in accumulator.Tags()["scalars"]:
        print(tag, [(e.step, round(e.value, 6)) for e in accumulator.Scalars(tag)])
else:
    versions = f"# tensorboard {tensorboard.__version__}, protobuf {google.protobuf.__version__}"
    TARGET.write_text(f"{versions}; made by scripts/reference/events.py\n{make()}\n")
