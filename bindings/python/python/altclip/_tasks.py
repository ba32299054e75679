"""Evaluation, training and downloads: the commands of the program, with keywords for flags and dicts for rows."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Callable, Union

from altclip import _native
from altclip._errors import AltClipWarning, refusal

if TYPE_CHECKING:
    from altclip._model import Model

Path = Union[str, os.PathLike[str]]
Row = dict[str, Any]

# Tasks by our names and by those of CLIP_benchmark.
_COMMANDS = {
    "retrieval": "retrieval", "zeroshot_retrieval": "retrieval",
    "zeroshot": "zeroshot", "zeroshot_classification": "zeroshot",
    "linear_probe": "linear-probe",
    "consistency": "consistency",
}  # fmt: skip


def run(*args: object, say: Callable[[str], object] | None = None) -> str:
    """Runs a command of `altclip` inside of this process and gives back what it would print.

    `run("info", "--model", "nano", "--json")`. Errors are raised, warnings warned of; Ctrl-C ends what takes long.

    Args:
        *args: The command line behind the program's name.
        say: Is called with each line that is meant for a person who watches.
    """

    def warn(line: str) -> None:
        warnings.warn(line, AltClipWarning, stacklevel=4)

    line = ["altclip", *(os.fspath(arg) if isinstance(arg, os.PathLike) else str(arg) for arg in args)]
    return _native.call(line, say, warn).decode("utf-8", "replace")


def rows(
    *command: str, flags: dict[str, Any], paths: Iterable[Path] = (), say: Callable[[str], object] | None = None
) -> list[Row]:
    """As `run`, for a command that prints JSON Lines.

    Keywords become flags: `batch_size=8` is `--batch-size=8`, True a flag alone, a list the flag several times.
    """
    line = [*command, "--json", *_flags(flags), "--", *paths]
    return [json.loads(row) for row in run(*line, say=say).splitlines() if row]


def download(repo: str, revision: str = "main", *, offline: bool = False, verbose: bool = False) -> Row:
    """A model from the hub into the standard cache: `{"dir": …, "license": …, "files": […]}`.

    The `HF_*` variables say where the hub and its cache are. What is there already is not fetched again.
    """
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        # Only what lies in the cache; its absence is an error that says so.
        folder = _native.Processor.load(repo).folder
        return {"repo": repo, "revision": revision, "dir": os.fspath(folder), "files": []}
    say = print if verbose else None
    (found,) = rows("download", flags={"revision": revision}, paths=[repo], say=say)
    return found


def samples() -> dict[str, bytes]:
    """Pictures that the miniature knows, the bytes of PNG files by their English names."""
    return _native.samples()


def evaluate(
    model: Model | Path | None,
    task: str,
    dataset: Path | Sequence[Path] | None = None,
    *,
    templates: Path | Sequence[str] | None = None,
    classnames: Path | Sequence[str] | None = None,
    out: Path | None = None,
    verbose: bool = False,
    **options: Any,
) -> list[Row]:
    """How good a model is at a task: the figures of `altclip eval`, under the names of CLIP_benchmark.

    Args:
        model: A loaded model, or its name; None where files of embeddings are compared.
        task: `retrieval`, `zeroshot`, `linear_probe` or `consistency`.
        dataset: `KIND:PATH`, such as `webdataset:cifar10` or `karpathy:dataset_coco.json`; several for retrieval.
        templates: Prompts with `{}` for the class, as a list or a file.
        classnames: Names of the classes in the order of their labels, as a list or a file.
        out: A new folder for JSON, CSV and a page.
        verbose: Print what the command says meanwhile.
        **options: Further flags of `altclip eval TASK`, such as `language="zh"`, `max_bad="1%"`, `no_cache=True`.

    Returns:
        One dict a language: `{"dataset", "model", "pretrained", "task", "metrics": {…}, "language", …}`.
    """
    command = _COMMANDS.get(task)
    if command is None:
        raise refusal("E1101", "there is no such task", where="task", got=task,
                      expected=", ".join(_COMMANDS), help="see altclip eval --help")  # fmt: skip
    with ExitStack() as stack:
        given: dict[str, Any] = {
            **_model_flags(model), "dataset": _listed(dataset), "out": out,
            "templates": _file_of(templates, stack), "classnames": _file_of(classnames, stack),
        }  # fmt: skip
        say = print if verbose else None
        return rows("eval", command, flags={**given, **options}, say=say)


def train_distill(
    teacher: Path, student: Path, pairs: Path | Sequence[Path], out: Path, *, verbose: bool = True, **options: Any
) -> Row:
    """Stage 1 of AltCLIP: a text tower of many languages learns from CLIP's, from parallel sentences alone.

    Args:
        teacher: A CLIP folder, or the name of a model; its text tower is imitated, the rest becomes part of the new
            model.
        student: A folder of XLM-RoBERTa, of an AltCLIP, or of config.json and tokenizer alone.
        pairs: Files of parallel texts: TSV (teacher, tab, student), JSONL or Parquet.
        out: The folder that becomes the model; checkpoints, metrics.jsonl and report.html lie beside it.
        verbose: Print progress.
        **options: Flags of `altclip train distill`, such as `max_steps=200`, `batch_size=64`, `lr=1e-3`,
            `resume="newest"`.

    Returns:
        `{"out", "kind", "end", "steps", "loss", "samples_per_second", "scores", "bad_batches"}`.

    Raises:
        KeyboardInterrupt: After Ctrl-C; the state is saved, and `resume="newest"` goes on bit for bit.
    """
    given = {"teacher": teacher, "student": student, "pairs": _listed(pairs), "out": out}
    return _train("distill", given, verbose, options)


def train_contrastive(
    model: Path, pairs: Path | Sequence[Path], out: Path, *, verbose: bool = True, **options: Any
) -> Row:
    """Stage 2 of AltCLIP: the text tower on pictures with captions. As `train_distill`."""
    return _train("contrastive", {"model": model, "pairs": _listed(pairs), "out": out}, verbose, options)


def train_clip(config: Path, pairs: Path | Sequence[Path], out: Path, *, verbose: bool = True, **options: Any) -> Row:
    """A CLIP of its own from random numbers, of the size that `config` (a config.json) says. As `train_distill`."""
    return _train("clip", {"config": config, "pairs": _listed(pairs), "out": out}, verbose, options)


def train_finetune(model: Path, data: Path, out: Path, *, verbose: bool = True, **options: Any) -> Row:
    """A model on labelled pictures. As `train_distill`; `lora_rank=8`, `template=[…]`, `part="last"` are options."""
    return _train("finetune", {"model": model, "data": data, "out": out}, verbose, options)


def _train(kind: str, given: dict[str, Any], verbose: bool, options: dict[str, Any]) -> Row:
    (found,) = rows("train", kind, flags={**given, **options}, say=print if verbose else None)
    return found


def _flags(options: dict[str, Any]) -> list[str]:
    found = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        values = value if isinstance(value, (list, tuple)) else [value]
        for each in values:
            if each is True:
                found.append(flag)
            elif each is not None and each is not False:
                found.append(f"{flag}={os.fspath(each) if isinstance(each, os.PathLike) else each}")
    return found


def _model_flags(model: Any) -> dict[str, Any]:
    if model is None or isinstance(model, (str, os.PathLike)):
        return {"model": model}
    found: dict[str, Any] = model._flags()
    return found


def _listed(paths: Any) -> list[Any]:
    if paths is None:
        return []
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def _file_of(entries: Path | Iterable[str] | None, stack: ExitStack) -> Path | None:
    """A file as it is; a list as a file that lives as long as the call."""
    if entries is None or isinstance(entries, (str, os.PathLike)):
        return entries
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path = os.path.join(folder, "entries.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{entry}\n" for entry in entries)
    return path
