"""A loaded model: rows of texts and pictures, similarity, labels, and the calls of transformers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Callable, Union

import numpy as np

from altclip import _array, _images, _native
from altclip._errors import AltClipError, AltClipFileError, AltClipWarning, refusal
from altclip._progress import progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from altclip._images import Image

    Floats = NDArray[np.float32]

Path = Union[str, os.PathLike[str]]

# Pictures that are not files are copied; so many at a time.
_COPIED = 256
_NAMES_OF_DTYPES = {
    "float32": "f32", "float": "f32", "f32": "f32", "auto": "f32",
    "bfloat16": "bf16", "bf16": "bf16",
    "int8": "int8",
}  # fmt: skip


def load(
    name: Path,
    precision: str = "f32",
    *,
    threads: int | None = None,
    max_length: int | None = None,
    cache: bool = True,
    allow_extra_keys: bool = False,
    exif_orient: bool = False,
    alpha: str = "drop",
    max_pixels: int | None = None,
) -> Model:
    """Opens a model. No network is used: `altclip.download` fetches one.

    Args:
        name: A model folder, a packed `.altclip` file, the id of a downloaded model (`BAAI/AltCLIP`), or `nano`,
            the miniature in this package that knows emoji.
        precision: `f32` (the numbers of transformers), `bf16` or `int8`.
        threads: Number of threads; as many as the process may use unless given.
        max_length: Longest text in tokens; longer ones are truncated, and a warning says so.
        cache: Keep packed weights of bf16 and int8 in `ALTCLIP_CACHE`, so that the next start is quick.
        allow_extra_keys: Accept tensors that the model does not use.
        exif_orient: Turn pictures as their EXIF orientation says; the reference does not.
        alpha: What becomes of transparency: `drop` as the reference does, or `composite` on white.
        max_pixels: Largest picture that is decoded; 64 million unless given.

    Raises:
        AltClipFileNotFoundError: There is no such model.
        AltClipModelError: Its files are damaged or contradict each other.
    """
    return Model.load(name, precision, threads=threads, max_length=max_length, cache=cache,
                      allow_extra_keys=allow_extra_keys, exif_orient=exif_orient, alpha=alpha,
                      max_pixels=max_pixels)  # fmt: skip


class ModelOutput:
    """What a call of a model gives, with the names of transformers; also by number and by name.

    Attributes:
        logits_per_image: `[images, texts]`, `exp(logit_scale)` times the cosines.
        logits_per_text: `[texts, images]`.
        text_embeds: `[texts, E]`, L2-normalised.
        image_embeds: `[images, E]`, L2-normalised.
    """

    _NAMES = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")

    def __init__(self, logits_per_image: Any, logits_per_text: Any, text_embeds: Any, image_embeds: Any) -> None:
        self.logits_per_image = logits_per_image
        self.logits_per_text = logits_per_text
        self.text_embeds = text_embeds
        self.image_embeds = image_embeds

    def keys(self) -> tuple[str, ...]:
        """The names."""
        return self._NAMES

    def to_tuple(self) -> tuple[Any, ...]:
        """The arrays in the order of the names."""
        return tuple(getattr(self, name) for name in self._NAMES)

    def __getitem__(self, key: str | int) -> Any:
        return self.to_tuple()[key] if isinstance(key, int) else getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._NAMES)


class Model:
    """A model, safe to use from many threads at a time; the interpreter is free while it computes.

    `load` opens one. It can be closed, and used in a `with` statement. It cannot be pickled or used in a forked
    child: load one in each process.
    """

    def __init__(self, native: _native.Model, alpha: str = "drop", exif_orient: bool = False) -> None:
        self._native = native
        self._alpha = alpha
        self._exif_orient = exif_orient

    @classmethod
    def load(cls, name: Path, precision: str = "f32", **options: Any) -> Model:
        """As `altclip.load`."""
        defaults: dict[str, Any] = {
            "threads": None, "max_length": None, "cache": True, "allow_extra_keys": False, "exif_orient": False,
            "alpha": "drop", "max_pixels": None,
        }  # fmt: skip
        unknown = set(options) - set(defaults)
        if unknown:
            raise TypeError(f"load() got an unexpected keyword argument {min(unknown)!r}")
        options = defaults | options
        native = _native.Model.load(name, precision=precision, **options)
        for warning in native.warnings:
            warnings.warn(warning, AltClipWarning, stacklevel=3)
        return cls(native, options["alpha"], options["exif_orient"])

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Path,
        *,
        revision: str | None = None,
        cache_dir: Path | None = None,
        local_files_only: bool = False,
        token: Any = None,
        use_auth_token: Any = None,
        dtype: Any = None,
        torch_dtype: Any = None,
        device: Any = None,
        device_map: Any = None,
        **options: Any,
    ) -> Model:
        """Opens a model by folder or hub id, as transformers does; what is not in the cache is downloaded.

        Args:
            pretrained_model_name_or_path: A folder, a hub id, a packed file, or `nano`.
            revision: A branch, tag or commit of the hub.
            cache_dir: Must be None; `HF_HUB_CACHE` names the cache.
            local_files_only: Do not use the network.
            token: Must not be a text; `HF_TOKEN` and `HF_TOKEN_PATH` hold it.
            use_auth_token: As `token`.
            dtype: `float32` or `bfloat16`, as text or of torch.
            torch_dtype: As `dtype`.
            device: Must be the CPU.
            device_map: Must be the CPU.
            **options: As `altclip.load`.
        """
        _only_the_cpu(device if device is not None else device_map)
        wanted = dtype if dtype is not None else torch_dtype
        name = str(wanted).removeprefix("torch.") if wanted is not None else options.pop("precision", "f32")
        precision = _NAMES_OF_DTYPES.get(name)
        if precision is None:
            raise refusal("E1101", "this type is not computed in", where="dtype", got=name,
                          expected="float32, bfloat16 or int8", help="leave dtype out")  # fmt: skip
        name = located(pretrained_model_name_or_path, revision, cache_dir, local_files_only, token or use_auth_token)
        return cls.load(name, precision, **options)

    # The life of a model.

    def close(self) -> None:
        """Lets go of the weights. Calls that run in other threads end in peace; later ones raise."""
        self._native.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise refusal("E9101", "a model cannot be pickled", got="pickle or copy", status=2,
                      expected="a model loaded in each process", help="call altclip.load there")  # fmt: skip

    def __repr__(self) -> str:
        try:
            return f"<altclip.Model {self.family} {self.precision} E={self.embedding_dim} {self.folder}>"
        except AltClipError:
            return "<altclip.Model, closed or of another process>"

    def eval(self) -> Model:
        """Itself: nothing here trains."""
        return self

    def to(self, device: Any = None, *_args: Any, **_kwargs: Any) -> Model:
        """Itself; `device` must be the CPU."""
        _only_the_cpu(device)
        return self

    # What it is.

    @property
    def folder(self) -> str:
        """The folder or packed file that it was loaded from."""
        return os.fspath(self._native.folder)

    @property
    def embedding_dim(self) -> int:
        """The width of a row, E."""
        return self._native.width

    @property
    def max_length(self) -> int:
        """Longest text in tokens."""
        return self._native.max_length

    @property
    def precision(self) -> str:
        """`f32`, `bf16` or `int8`."""
        return self._native.precision

    @property
    def family(self) -> str:
        """The family, such as `altclip` or `clip`."""
        return self._native.family

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax."""
        return self._native.scale()

    def _flags(self) -> dict[str, Any]:
        """Itself as flags of the command line."""
        return {"model": self.folder, "precision": self.precision, "threads": self._native.threads,
                "alpha": self._alpha, "exif_orient": self._exif_orient}  # fmt: skip

    def get_sentence_embedding_dimension(self) -> int:
        """The width of a row, by the name of sentence-transformers."""
        return self.embedding_dim

    # Rows.

    def encode_text(self, texts: str | Iterable[str], *, normalize: bool = True, progress: bool = False) -> Floats:
        """Texts to rows of the joint space.

        Args:
            texts: Texts in any language of the model.
            normalize: Divide each row by its L2 norm.
            progress: Show a bar, where tqdm is installed.

        Returns:
            float32 `[N, E]`, in the order of the texts. A row has the same bits in whatever company.

        Warns:
            AltClipWarning: Texts were truncated.
        """
        items = [texts] if isinstance(texts, str) else list(texts)
        with progress_bar(len(items), progress) as bar:
            data, width, truncated = self._native.texts(items, normalize, bar)
        if truncated:
            warnings.warn(
                f"{truncated} of {len(items)} texts were truncated to {self.max_length} tokens", AltClipWarning,
                stacklevel=2,
            )  # fmt: skip
        return _array.from_bytes(data, width)

    def encode_image(
        self, images: Image | Iterable[Image], *, normalize: bool = True, progress: bool = False
    ) -> Floats:
        """Pictures to rows of the joint space.

        Args:
            images: Paths, bytes of files, PIL images, or uint8 arrays `[H, W, 3]`, in any mixture; one picture or
                several. Files are read and decoded while the model computes.
            normalize: Divide each row by its L2 norm.
            progress: Show a bar, where tqdm is installed.

        Returns:
            float32 `[N, E]`, in the order of the pictures.

        Raises:
            AltClipInputError: A picture is refused; `where` says which.
        """
        items = _images.listed(images)
        rows = np.empty((len(items), self.embedding_dim), np.float32)
        with progress_bar(len(items), progress) as bar:
            for start, part in self._parts(items):
                data, width, _ = self._guarded(start, self._native.pictures, part, normalize, False, _from(start, bar))
                rows[start : start + len(part)] = _array.from_bytes(data, width)
        return rows

    def iter_text(
        self, texts: Iterable[str], *, normalize: bool = True, chunk_size: int = 1024, progress: bool = False
    ) -> Iterator[Floats]:
        """The rows of any number of texts, one after the other, float32 `[E]`; memory is that of a chunk."""
        iterator = iter(texts)
        with progress_bar(None, progress) as bar:
            done = 0
            while chunk := list(islice(iterator, chunk_size)):
                yield from self.encode_text(chunk, normalize=normalize)
                done += len(chunk)
                bar(done)

    def iter_image(
        self,
        images: Iterable[Image],
        *,
        normalize: bool = True,
        chunk_size: int = 256,
        on_error: str = "raise",
        progress: bool = False,
    ) -> Iterator[Floats | AltClipError]:
        """The rows of any number of pictures, one after the other, float32 `[E]`; memory is that of a chunk.

        Args:
            images: As for `encode_image`.
            normalize: As for `encode_image`.
            chunk_size: Pictures that are taken from the iterator at a time.
            on_error: `raise`, or `return`: the exception takes the place of a bad picture's row.
            progress: Show a bar, where tqdm is installed.
        """
        iterator, start = iter(images), 0
        with progress_bar(None, progress) as bar:
            while chunk := list(islice(iterator, chunk_size)):
                faults: dict[int, Any] = {}
                part: list[Any] = []
                for n, image in enumerate(chunk):
                    try:
                        part.append(_images.native(image, start + n, self._alpha))
                    except AltClipError as error:
                        if on_error == "raise":
                            raise
                        faults[n] = error
                good = [n for n in range(len(chunk)) if n not in faults]
                data, width, found = self._guarded(start, self._native.pictures, part, normalize, on_error != "raise",
                                                   None)  # fmt: skip
                rows = _array.from_bytes(data, width)
                faults.update((good[place], _moved(error, start)) for place, error in found)
                row_of = {n: row for n, row in zip(good, rows)}
                for n in range(len(chunk)):
                    yield faults[n] if n in faults else row_of[n]
                start += len(chunk)
                bar(start)

    def encode(
        self,
        sentences: Any,
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
    ) -> Any:
        """Texts or pictures to rows, with the arguments of sentence-transformers.

        Args:
            sentences: A text, a picture (PIL image, array, bytes), or a list of them, also mixed. A `str` is a text.
            batch_size: Accepted; the model makes its own batches, with the same bits for every size.
            show_progress_bar: Show a bar, where tqdm is installed.
            convert_to_numpy: Give an array `[N, E]`; else a list of arrays `[E]`.
            convert_to_tensor: Give a tensor of torch, where it is installed.
            normalize_embeddings: Divide each row by its L2 norm.

        Returns:
            float32 `[N, E]`; `[E]` for one input that is no list.
        """
        del batch_size
        one = isinstance(sentences, str) or _images.is_one(sentences)
        items = [sentences] if one else list(sentences)
        rows = np.empty((len(items), self.embedding_dim), np.float32)
        show = bool(show_progress_bar)
        texts = [n for n, item in enumerate(items) if not _images.is_image(item)]
        if texts:
            rows[texts] = self.encode_text([items[n] for n in texts], normalize=normalize_embeddings, progress=show)
        images = [n for n, item in enumerate(items) if _images.is_image(item)]
        if images:
            rows[images] = self.encode_image([items[n] for n in images], normalize=normalize_embeddings,
                                             progress=show)  # fmt: skip
        found = rows[0] if one else rows
        if convert_to_tensor:
            return _array.as_tensors(found, "pt")
        return found if convert_to_numpy or one else list(found)

    # Comparing.

    def similarity(self, a: Any, b: Any) -> Floats:
        """How similar each of `a` is to each of `b`: cosines, or what the model compares with.

        Args:
            a: Rows `[N, E]`, or texts, or pictures.
            b: Rows `[M, E]`, or texts, or pictures.

        Returns:
            float32 `[N, M]`. A model that compares token by token or looks twice (Wukong, R2D2) needs pictures on
            one side and texts on the other.
        """
        if not self._native.is_cosine:
            return self._compared(a, b)
        rows_a, rows_b = self._rows(a), self._rows(b)
        bytes_a, shape_a = _array.to_bytes(rows_a, "a", "[N, E]", 2)
        bytes_b, shape_b = _array.to_bytes(rows_b, "b", "[M, E]", 2)
        if shape_a[1] != shape_b[1]:
            raise refusal("E1101", "rows of different widths cannot be compared", where="a and b",
                          got=f"{shape_a[1]} and {shape_b[1]}", expected="rows of one model",
                          help="encode both with this model")  # fmt: skip
        if 0 in (shape_a[0], shape_b[0]):
            return np.empty((shape_a[0], shape_b[0]), np.float32)
        width = shape_a[1]
        unit_a, unit_b = (bytes(self._native.normalize(rows, width)) for rows in (bytes_a, bytes_b))
        return _array.from_bytes(self._native.cosines(unit_a, unit_b, width), shape_b[0])

    def probabilities(
        self, images: Image | Iterable[Image], labels: Sequence[str], templates: str | Sequence[str] = ()
    ) -> Floats:
        """The probability of each label for each picture, float32 `[images, labels]`; rows sum to 1.

        Args:
            images: As for `encode_image`.
            labels: Names in any language of the model.
            templates: Captions with `{}` for the label; the mean of several is used.
        """
        return self._classified(images, labels, templates)

    def classify(
        self,
        image: Image | Iterable[Image],
        labels: Sequence[str],
        templates: str | Sequence[str] = (),
        *,
        top_k: int | None = None,
    ) -> Any:
        """Which labels fit a picture.

        Args:
            image: One picture, or several.
            labels: Names in any language of the model.
            templates: Captions with `{}` for the label, such as `a photo of a {}`; the mean of several is used.
            top_k: Give the best so many only.

        Returns:
            For one picture `[{"label": …, "score": probability}, …]`, the best first; for several a list of those.
        """
        one = _images.is_one(image)
        probabilities = self._classified(image, labels, templates)
        names = list(labels)

        def best_first(row: Any) -> list[dict[str, Any]]:
            order = np.argsort(-row, kind="stable")[:top_k]
            return [{"label": names[n], "score": float(row[n])} for n in order]

        found = [best_first(row) for row in probabilities]
        return found[0] if one else found

    def zero_shot_image_classification(
        self,
        image: Image | Iterable[Image],
        candidate_labels: Sequence[str],
        hypothesis_template: str = "This is a photo of {}.",
    ) -> Any:
        """As `classify`, with the arguments of the pipeline of transformers."""
        return self.classify(image, candidate_labels, hypothesis_template)

    # As transformers.

    def get_text_features(self, input_ids: Any, attention_mask: Any = None, **_ignored: Any) -> Floats:
        """Token ids to projected features, not normalised: a plain float32 array `[N, E]`.

        Args:
            input_ids: Whole numbers `[N, T]`, or lists of different lengths.
            attention_mask: 1 for tokens and 0 for padding, `[N, T]`.
        """
        ids, lengths = self._tokens(input_ids, attention_mask)
        return _array.from_bytes(*self._native.features_of_ids(ids, lengths))

    def get_image_features(self, pixel_values: Any, **_ignored: Any) -> Floats:
        """Pixel values `[N, 3, Y, X]` to projected features, not normalised: a plain float32 array `[N, E]`."""
        height, width = self._native.image_size
        shape = f"[N, 3, {height}, {width}]"
        pixels, found = _array.to_bytes(pixel_values, "pixel_values", shape, 4)
        if found[1:] != (3, height, width):
            raise refusal("E4101", "pixel_values have another shape", area="image", where="pixel_values",
                          got=f"shape {list(found)}", expected=shape,
                          help="make them with the processor of the same model")  # fmt: skip
        return _array.from_bytes(*self._native.features_of_pixels(pixels))

    def __call__(
        self, input_ids: Any = None, pixel_values: Any = None, attention_mask: Any = None, **_ignored: Any
    ) -> ModelOutput:
        """Token ids and pixel values to logits, as `AltCLIPModel` of transformers.

        Args:
            input_ids: `[texts, T]`
            pixel_values: `[images, 3, Y, X]`
            attention_mask: `[texts, T]`

        Returns:
            Tensors of torch where the inputs are, else arrays with the methods of `altclip.Array`.
        """
        if input_ids is None or pixel_values is None:
            missing = "input_ids" if input_ids is None else "pixel_values"
            raise refusal("E1101", "a call takes texts and pictures", where=missing, got="None", expected="an array",
                          help="for one side alone: encode_text, encode_image")  # fmt: skip
        if not self._native.is_cosine:
            raise refusal("E1101", "this model does not compare one row with one row", where="model", got=self.family,
                          expected="a model with one row a text", help="call similarity(images, texts)")  # fmt: skip
        kind = "pt" if _array.is_torch(input_ids) or _array.is_torch(pixel_values) else "np"
        text = self._normalized(self.get_text_features(input_ids, attention_mask))
        image = self._normalized(self.get_image_features(pixel_values))
        cosines = self._native.cosines(text.tobytes(), image.tobytes(), self.embedding_dim)
        logits_per_text = _array.from_bytes(cosines, len(image)) * np.float32(self.logit_scale)
        logits_per_image = np.ascontiguousarray(logits_per_text.T)
        arrays = (logits_per_image, logits_per_text, text, image)
        return ModelOutput(*(_array.as_tensors(array, kind) for array in arrays))

    # Inside.

    def _parts(self, items: list[Any]) -> Iterator[tuple[int, list[Any]]]:
        """Pictures for the native half, with the number of the first: files all at once, copies some at a time."""
        if all(isinstance(item, (str, os.PathLike)) for item in items):
            yield 0, _images.many(items, 0, self._alpha)
            return
        for start in range(0, len(items), _COPIED):
            yield start, _images.many(items[start : start + _COPIED], start, self._alpha)

    def _guarded(self, start: int, call: Callable[..., Any], *args: Any) -> Any:
        """Calls; an error of item `n` is one of item `start + n`."""
        try:
            return call(*args)
        except AltClipError as error:
            raise _moved(error, start) from None

    def _classified(self, images: Any, labels: Sequence[str], templates: str | Sequence[str]) -> Floats:
        items = _images.listed(images)
        names = [labels] if isinstance(labels, str) else list(labels)
        prompts = [templates] if isinstance(templates, str) else list(templates)
        if not names:
            raise refusal("E1101", "there is nothing to choose from", where="labels", got="no label",
                          expected="at least one", help="name some")  # fmt: skip
        found = [np.empty((0, len(names)), np.float32)]
        for start, part in self._parts(items):
            _, probabilities = self._guarded(start, self._native.classify, part, names, prompts)
            found.append(_array.from_bytes(probabilities, len(names)))
        return np.concatenate(found)

    def _rows(self, value: Any) -> Any:
        """Rows as they are; texts and pictures encoded."""
        array = isinstance(value, np.ndarray) or _array.is_torch(value)
        if array and value.ndim in (1, 2) and not str(value.dtype).endswith("uint8"):
            return value if value.ndim == 2 else value[None]
        if isinstance(value, str):
            return self.encode_text([value])
        if _images.is_one(value):
            return self.encode_image([value])
        items = list(value)
        if items and all(isinstance(item, str) for item in items):
            return self.encode_text(items)
        if items and _images.is_image(items[0]) and getattr(items[0], "ndim", 3) > 1:
            return self.encode_image(items)
        return _array.to_numpy(items) if items else np.empty((0, self.embedding_dim), np.float32)

    def _compared(self, a: Any, b: Any) -> Floats:
        a, b = ([side] if isinstance(side, str) or _images.is_one(side) else list(side) for side in (a, b))
        texts_first = bool(a) and isinstance(a[0], str)
        images, texts = (b, a) if texts_first else (a, b)
        found = self._native.compare(_images.many(images, 0, self._alpha), texts)
        rows = _array.from_bytes(found, max(len(texts), 1))
        return np.ascontiguousarray(rows.T) if texts_first else rows

    def _normalized(self, rows: Floats) -> Floats:
        width = rows.shape[1]
        return _array.from_bytes(self._native.normalize(rows.tobytes(), width), width)

    def _tokens(self, input_ids: Any, attention_mask: Any) -> tuple[bytes, list[int]]:
        """The ids of all tokens that are not padding, one text after the other, and how many each has."""
        if isinstance(input_ids, (list, tuple)) and attention_mask is None:
            rows = [_whole(row, "input_ids", 1) for row in input_ids]
            flat = np.concatenate(rows) if rows else np.empty(0, np.int64)
            return flat.astype("<u4").tobytes(), [len(row) for row in rows]
        if isinstance(input_ids, (list, tuple)):
            pairs = [(_whole(row, "input_ids", 1), _whole(mask, "attention_mask", 1) != 0)
                     for row, mask in zip(input_ids, attention_mask)]  # fmt: skip
            rows = [row[mask] for row, mask in pairs if row.shape == mask.shape]
            if len(rows) != len(input_ids):
                raise _masked("lists of another length")
            flat = np.concatenate(rows) if rows else np.empty(0, np.int64)
            return flat.astype("<u4").tobytes(), [len(row) for row in rows]
        ids = _whole(input_ids, "input_ids", 2)
        if attention_mask is None:
            if self.family != "clip" and (ids == self._native.pad_id).any():
                raise _masked("padding in input_ids, and no attention_mask")
            mask = np.ones(ids.shape, bool)
        else:
            mask = _whole(attention_mask, "attention_mask", 2) != 0
        if mask.shape != ids.shape:
            raise _masked(f"shapes {list(mask.shape)} and {list(ids.shape)}")
        edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
        if ((edges == 1).sum(axis=1) > 1).any():
            raise _masked("a gap between tokens")
        return ids[mask].astype("<u4").tobytes(), mask.sum(axis=1).tolist()


AltCLIP = Model


def located(name: Path, revision: str | None, cache_dir: Path | None, local_files_only: bool, token: Any) -> Path:
    """What `from_pretrained` names, as a name that `load` knows; downloaded where that is allowed."""
    if cache_dir is not None:
        raise refusal("E1101", "the cache is named by a variable", where="cache_dir", got=str(cache_dir)[:80],
                      expected="None", help="set HF_HUB_CACHE or HF_HOME")  # fmt: skip
    if isinstance(token, str):
        raise refusal("E1101", "a token is not taken as an argument", where="token", got="a text", expected="None",
                      help="set HF_TOKEN, or HF_TOKEN_PATH")  # fmt: skip
    if os.fspath(name) == "nano" or os.path.exists(name):
        return name
    if revision is None:
        try:
            _native.Processor.load(name)
            return name
        except AltClipFileError:
            if local_files_only:
                raise
    from altclip._tasks import download

    return str(download(os.fspath(name), revision=revision or "main", offline=local_files_only)["dir"])


def _whole(value: Any, name: str, ndim: int) -> NDArray[np.int64]:
    array = _array.to_numpy(value)
    if array.size == 0 and array.ndim == ndim:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub" or array.ndim != ndim:
        shape = "[N, T]" if ndim == 2 else "[T]"
        raise refusal("E1101", f"{name} are no whole numbers {shape}", where=name,
                      got=f"dtype {array.dtype}, shape {list(array.shape)}", expected=f"int64 {shape}",
                      help="make them with the processor of the same model")  # fmt: skip
    if array.size and (array.min() < 0 or array.max() >= 1 << 32):
        raise refusal("E1101", f"{name} has a number that is no id", where=name,
                      got=str(array.min() if array.min() < 0 else array.max()), expected="0 or more",
                      help="make them with the processor of the same model")  # fmt: skip
    return array.astype(np.int64, copy=False)


def _masked(got: str) -> AltClipError:
    return refusal("E1101", "attention_mask does not fit input_ids", where="attention_mask", got=got,
                   expected="1 for each token and 0 for padding, of the same shape",
                   help="hand over both as the processor gives them")  # fmt: skip


def _only_the_cpu(device: Any) -> None:
    # A type of torch is no device.
    if device is None or str(device).split(":")[0] in ("cpu", "auto", "torch.float32", "float32"):
        return
    raise refusal("E1101", "there is no such device here", where="device", got=str(device)[:80], expected="cpu",
                  help="leave it out")  # fmt: skip


def _from(start: int, bar: Callable[[int], object] | None) -> Callable[[int], object] | None:
    return None if bar is None else lambda done: bar(start + done)


def _moved(error: Any, start: int) -> Any:
    """An error whose place counts from `start` on."""
    where = getattr(error, "where", None)
    if start and where and where.startswith("image "):
        head, _, rest = where[6:].partition(",")
        if head.isdigit():
            moved = f"image {int(head) + start}" + (f",{rest}" if rest else "")
            error.args = (str(error).replace(where, moved, 1),)
            error.where = moved
    return error
