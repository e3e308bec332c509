"""Arrays in pickled objects, as joblib and pickle write them, without running what they name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt

from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError

Array = npt.NDArray[Any]
_MOST = 2**28  # bytes of a file; a PCA of 768 dimensions takes 5 MB
_KINDS = "fiub"  # floats, integers and booleans


class _Record:
    """Stands for an object of any class; keeps its state and runs nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Inline(_Record):
    """joblib's note that the bytes of an array follow in the file."""


def _empty(*_: Any) -> _Record:
    """Stands for an array that pickle fills afterwards."""
    return _Record()


def _scalar(*_: Any) -> None:
    """Stands for a numpy number."""


class _Reader(pickle._Unpickler):  # the reader in Python: an array's bytes lie between its steps
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        """Admit arrays and their types; every other class becomes a record."""
        top = module.split(".")[0]
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return _Inline
        if top == "numpy":
            admitted = {"dtype": np.dtype, "ndarray": _Record}
            made = {"_reconstruct": _empty, "scalar": _scalar}
            if name in admitted or name in made:
                return (admitted | made)[name]
        if top == "sklearn" and name[:1].isupper():
            return _Record
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def load_build(self) -> None:
        """Set a state; only records and types of arrays take one."""
        stack: Any = self.stack  # type: ignore[attr-defined]
        if not isinstance(stack[-2], _Record | np.dtype):
            raise pickle.UnpicklingError("it sets the state of something else than an object")
        super().load_build()  # type: ignore[misc]
        if isinstance(stack[-1], _Inline):
            stack[-1] = self._array(stack[-1].state)

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
    }

    def _array(self, note: Any) -> Array:
        """Array whose bytes come next in the file."""
        if note.get("numpy_array_alignment_bytes") is not None:
            self._file.read(self._file.read(1)[0])
        shape, kind = tuple(map(int, note["shape"])), note["dtype"]
        count = int(np.prod(shape, dtype=object))
        if kind.kind not in _KINDS or count * kind.itemsize > _MOST:
            raise pickle.UnpicklingError(f"it holds an array {shape} of {kind}")
        content = self._file.read(count * kind.itemsize)
        flat: Array = np.frombuffer(content, kind, count)
        # Columns first: the reversed shape, transposed.
        return flat.reshape(shape[::-1]).T if note.get("order") == "F" else flat.reshape(shape)


def read_array(path: Path, name: str) -> Array:
    """An array among the attributes of a pickled object, or the array of a ``.npy`` file.

    No class or function that the file names is imported or called.

    Args:
        path: file of ``joblib.dump`` (without compression) or ``numpy.save``.
        name: name of the attribute, such as ``mean_`` of a PCA.

    Raises:
        InputError: if the file names anything but arrays and objects of scikit-learn, or has no
            such array.
    """
    refuse_special(path)
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.stat().st_size > _MOST:
            raise InputError(f"{path} exceeds the limit of {_MOST:,} bytes")
        with path.open("rb") as file:
            found = _Reader(file).load()
        array = found.state[name]
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is no array that joblib wrote")
    except InputError:
        raise
    except Exception as error:  # a manipulated file can raise any error
        raise InputError(
            f"{path}: no array {name} can be read ({type(error).__name__}: {error}), and nothing "
            f"else is unpickled: where you trust the file, save the array with numpy.save and "
            f"name that file instead"
        ) from error
    return array
