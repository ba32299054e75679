"""Threads, interrupts, forks: the interpreter stays free, and nothing hangs."""

import os
import signal
import subprocess
import sys
import threading
import time

import altclip
import numpy as np
import pytest


def test_many_threads_get_their_own_rows(nano, pictures):
    paths = list(pictures.values())[:4]
    expected_images = nano.encode_image(paths)
    texts = [f"text {n}" for n in range(64)]
    expected = nano.encode_text(texts)
    wrong = []

    def work(n):
        for _ in range(3):
            if (nano.encode_text([texts[n]])[0] != expected[n]).any():
                wrong.append(n)
            if n % 8 == 0 and (nano.encode_image(paths) != expected_images).any():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_array_that_another_thread_changes_meanwhile(nano):
    """Each row is that of one state or a mixture of pixels, and memory stays sound."""
    image = np.zeros((64, 64, 3), np.uint8)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            image[:] = 255 - image[0, 0, 0]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            assert np.isfinite(nano.encode_image([image] * 4)).all()
    finally:
        stop.set()
        thread.join()


def test_the_interpreter_is_free_while_a_model_computes(nano):
    """A thread that counts goes on during a call."""
    counted = []

    def count():
        while not done.is_set():
            counted.append(None)
            time.sleep(0.001)

    done = threading.Event()
    thread = threading.Thread(target=count)
    thread.start()
    before = len(counted)
    nano.encode_text([f"{n} " * 60 for n in range(400)])
    after = len(counted)
    done.set()
    thread.join()
    assert after > before + 2


def test_closing_while_others_compute():
    model = altclip.load("nano")
    results = []

    def work():
        try:
            results.append(model.encode_text(["a b c " * 20] * 3000).shape)
        except altclip.AltClipStateError:
            results.append("closed")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    model.close()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and set(results) <= {(3000, 128), "closed"}


INTERRUPTED = """
import sys, altclip, signal
model = altclip.load("nano")
model.encode_text(["warm"])
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(model.encode_text(["a"]).shape, flush=True)
"""
CALLS = {
    "texts": 'model.encode_text([f"{n} " * 70 for n in range(200_000)])',
    "images": 'model.encode_image([open(sys.argv[1], "rb").read()] * 200_000)',
    "iterator": 'sum(1 for _ in model.iter_text(f"{n} " * 70 for n in range(200_000)))',
    "labels": 'model.classify([sys.argv[1]] * 200_000, ["a", "b"])',
}


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("what", CALLS)
def test_ctrl_c_ends_long_work(what, pictures):
    code = INTERRUPTED.format(call=CALLS[what])
    child = subprocess.Popen([sys.executable, "-c", code, str(pictures["key"])], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert out.splitlines() == ["interrupted", "(1, 128)"]


FORKED = """
import os, altclip
model = altclip.load("nano")
model.encode_text(["warm"])
child = os.fork()
if child == 0:
    try:
        model.encode_text(["a"])
    except RuntimeError as error:
        model.close()
        del model
        own = altclip.load("nano")
        fine = error.code == "E9101" and "spawn" in error.help and own.encode_text(["a"]).shape == (1, 128)
        del own
        os._exit(0 if fine else 3)
    os._exit(4)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), model.encode_text(["a"]).shape)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_is_told(cache):
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert done.stdout == "0 (1, 128)\n", done.stderr


def test_memory_of_an_iterator_is_bounded(nano):
    """More texts than fit a chunk, without a list of them or of their rows."""
    resource = pytest.importorskip("resource")
    for _ in nano.iter_text((str(n) for n in range(2_000)), chunk_size=500):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = "x" * 20_000
    for _ in nano.iter_text((f"{text}{n}" for n in range(4_000)), chunk_size=50):
        pass
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # 80 MB of texts went through.
    assert grown < 40_000, f"{grown} kB"
