"""What is measured: the batches of each case, the same for every engine."""

from dataclasses import dataclass

import numpy as np

from towers import VOCABULARY

IMAGE_SIZE, IMAGE_TOKENS = 224, 257
BOS, PAD, EOS, FIRST_WORD = 0, 1, 2, 4
TEXTS, SHORTEST, LONGEST, MIXED_BATCH = 256, 5, 77, 32


@dataclass(frozen=True)
class Case:
    """One row of the table; `tokens` is 257, 16, "mixed" or "mixed-sorted"."""

    tower: str
    batch: int
    tokens: int | str

    @property
    def name(self):
        """How the command line calls it."""
        return f"{self.tower}-{self.batch}" if not self.mixed else f"{self.tower}-{self.tokens}"

    @property
    def mixed(self):
        """Whether the texts have different lengths."""
        return isinstance(self.tokens, str)

    @property
    def items(self):
        """Pictures or texts in one pass."""
        return TEXTS if self.mixed else self.batch


CASES = (
    Case("image", 1, IMAGE_TOKENS),
    Case("image", 8, IMAGE_TOKENS),
    Case("text", 1, 16),
    Case("text", 32, 16),
    Case("text", MIXED_BATCH, "mixed"),
    Case("text", MIXED_BATCH, "mixed-sorted"),
)


def padded(lengths, random):
    """Ids and mask of some texts, padded to the longest."""
    ids = random.integers(FIRST_WORD, VOCABULARY, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)
    ids[:, 0] = BOS
    ids[np.arange(len(lengths)), np.asarray(lengths) - 1] = EOS
    return np.where(mask, ids, PAD), mask


def mixed_lengths(in_order):
    """Lengths of the texts of the mixed cases, as they come or sorted."""
    lengths = np.random.default_rng(0).integers(SHORTEST, LONGEST + 1, TEXTS)
    return lengths if in_order else np.sort(lengths)


def batches(case):
    """The inputs of one pass: a list of tuples, one for each call of the engine."""
    random = np.random.default_rng(1)
    if case.tower == "image":
        return [(random.standard_normal((case.batch, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32),)]
    lengths = mixed_lengths(case.tokens == "mixed") if case.mixed else np.full(case.batch, case.tokens)
    return [padded(lengths[i : i + case.batch], random) for i in range(0, len(lengths), case.batch)]
