"""A model as an encoder of mteb, for its tasks of texts and pictures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from altclip import _array

if TYPE_CHECKING:
    from altclip._model import Model, Path


class MtebEncoder:
    """`mteb.evaluate(MtebEncoder(altclip.load("BAAI/AltCLIP")), tasks)`, with mteb 2.

    It has the methods of mteb's `EncoderProtocol` and imports mteb only where its metadata are asked for. A batch
    with texts and pictures gives the sum of both rows, normalised, as mteb's wrapper of CLIP does.
    """

    def __init__(self, model_name: Model | Path, revision: str | None = None, *, device: Any = None,
                 **options: Any) -> None:  # fmt: skip
        """A model by name, as mteb makes one, or one that is loaded."""
        from altclip._model import Model

        if isinstance(model_name, Model):
            self.model = model_name
            self.name, of_folder = _named(model_name.folder)
        else:
            self.model = Model.from_pretrained(model_name, revision=revision, device=device, **options)
            name = os.fspath(model_name)
            _, of_folder = _named(self.model.folder)
            is_name = "/" in name and not os.path.exists(name)
            self.name = name if is_name else _named(os.path.abspath(name))[0]
        self.revision = revision or of_folder

    def encode(self, inputs: Any, *, task_metadata: Any = None, hf_split: str = "", hf_subset: str = "",
               prompt_type: Any = None, **_kwargs: Any) -> Any:  # fmt: skip
        """Batches (`{"text": […], "image": […]}`) to float32 `[N, E]`."""
        del task_metadata, hf_split, hf_subset, prompt_type
        parts = [self._batch(batch) for batch in inputs]
        return np.concatenate(parts) if parts else np.empty((0, self.model.embedding_dim), np.float32)

    def _batch(self, batch: Any) -> Any:
        texts, images = batch.get("text"), batch.get("image")
        if texts is None and images is None:
            raise KeyError("a batch has neither `text` nor `image`")
        if images is None:
            return self.model.encode_text(list(texts))
        rows = self.model.encode_image(list(images))
        if texts is None:
            return rows
        both = rows + self.model.encode_text(list(texts))
        return both / np.linalg.norm(both, axis=1, keepdims=True)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of rows `[N, E]` and `[M, E]`, of which each may be a single `[E]`: `[N, M]`, a tensor of torch where
        that is installed, since mteb's tasks do with it what tensors can."""
        a, b = (_rows(rows) for rows in (embeddings1, embeddings2))
        return _array.as_tensors(self.model.similarity(a, b), "pt")

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of the rows of one number, `[N]`, as `similarity`."""
        a, b = (_rows(rows).astype(np.float64) for rows in (embeddings1, embeddings2))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return _array.as_tensors(((a * b).sum(axis=1) / norms).astype(np.float32), "pt")

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes beside its results."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        return ModelMeta.create_empty({
            "name": self.name,
            "revision": self.revision or "no_revision_available",
            "embed_dim": self.model.embedding_dim,
            "max_tokens": self.model.max_length,
            "modalities": ["text", "image"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "framework": [],
        })  # fmt: skip


def _rows(rows: Any) -> Any:
    return np.atleast_2d(_array.to_numpy(rows)).astype(np.float32, copy=False)


def _named(folder: str) -> tuple[str, str | None]:
    """What mteb calls a model, and its revision: those of the hub where the folder is one of its cache."""
    above, name = os.path.split(os.path.normpath(folder))
    cache, snapshots = os.path.split(above)
    repo = os.path.basename(cache)
    if snapshots == "snapshots" and repo.startswith("models--"):
        return repo[len("models--") :].replace("--", "/"), name
    return f"altclip/{name}", None
