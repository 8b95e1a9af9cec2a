"""Files of agents and models: one zip of JSON, safetensors and npz, from which loading never runs code."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import safetensors.torch
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import DamagedFileError, MbrlGymError, UnsupportedSpaceError

__all__ = [
    "FilePath",
    "Saved",
    "load_tensors",
    "make_room",
    "read_archive",
    "space_from_json",
    "space_to_json",
    "storable",
    "write_archive",
]

FORMAT = "mbrl-gym"
VERSION = 1
FilePath = str | os.PathLike[str] | BinaryIO


class Saved:
    """Gives a class `save` and `load` for its constructor arguments and its state.

    A class says what it needs by `_saved_arguments` (JSON values and arrays), `_saved_state` (nested dicts of JSON
    values, arrays and tensors) and the classmethod `_restored`, which builds an object from both.
    """

    def _saved_arguments(self) -> dict[str, Any]:
        raise NotImplementedError

    def _saved_state(self) -> dict[str, Any]:
        raise NotImplementedError

    def _write(self, path: FilePath, state: dict[str, Any]) -> None:
        write_archive(path, type(self).__name__, {"arguments": self._saved_arguments(), "state": state})

    @classmethod
    def _read(cls, path: FilePath) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return arguments and state of a file of this class.

        Raises:
            DamagedFileError: Truncated, corrupted, or a file of something else.
        """
        kind, content = read_archive(path)
        if kind != cls.__name__:
            raise DamagedFileError(f"{_name(path)} holds a {kind}, not a {cls.__name__}: use {kind}.load")
        try:
            return content["arguments"], content["state"]
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"{_name(path)} is not a complete {FORMAT} file: {error}") from error


def write_archive(path: FilePath, kind: str, content: dict[str, Any]) -> None:
    """Write nested dicts and lists of JSON values, NumPy arrays and tensors.

    A path without a suffix gets ".zip". The file appears under its name only when it is complete.

    Raises:
        MbrlGymError: A value that cannot be stored; names its place in `content`.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tensors: dict[str, Tensor] = {}
    tree = {"format": FORMAT, "version": VERSION, "kind": kind, "content": _pack(content, "", arrays, tensors)}
    array_file = io.BytesIO()
    np.savez(array_file, **arrays)  # type: ignore[arg-type]
    parts = {
        "content.json": json.dumps(tree, indent=1).encode(),
        "arrays.npz": array_file.getvalue(),
        "tensors.safetensors": safetensors.torch.save(tensors),
    }
    if not isinstance(path, str | os.PathLike):
        _write_zip(path, parts)
        return
    target = Path(path)
    target = target if target.suffix else target.with_suffix(".zip")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            _write_zip(file, parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_archive(path: FilePath) -> tuple[str, dict[str, Any]]:
    """Return what `write_archive` wrote: the kind and the content.

    Raises:
        DamagedFileError: Truncated, corrupted, or not written by this package.
        FileNotFoundError: There is no such file.
    """
    file: Any = path
    if isinstance(path, str | os.PathLike):
        file = Path(path)
        if not file.exists() and file.with_name(file.name + ".zip").exists():
            file = file.with_name(file.name + ".zip")
    try:
        with zipfile.ZipFile(file) as archive:
            tree = json.loads(archive.read("content.json"))
            if tree["format"] != FORMAT or tree["version"] != VERSION:
                raise DamagedFileError(
                    f"{_name(path)} has format {tree['format']!r} version {tree['version']}; this release reads "
                    f"{FORMAT!r} version {VERSION}"
                )
            with np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False) as stored:
                arrays = dict(stored)
            tensors = safetensors.torch.load(archive.read("tensors.safetensors"))
        return tree["kind"], _unpack(tree["content"], arrays, tensors)
    except FileNotFoundError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        safetensors.SafetensorError,
        EOFError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        if isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(f"{_name(path)} is not a complete {FORMAT} file: {error}") from error


def storable(value: Any) -> bool:
    """Whether a constructor argument is plain data, which a file can hold."""
    if isinstance(value, dict):
        return all(storable(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(storable(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a space.

    Raises:
        UnsupportedSpaceError: A kind of space that files cannot hold.
    """
    if isinstance(space, spaces.Box):
        return {"kind": "Box", "low": space.low, "high": space.high, "dtype": np.dtype(space.dtype).name}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "nvec": space.nvec,
            "start": space.start,
            "dtype": np.dtype(space.dtype).name,
        }
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "parts": [[name, space_to_json(part)] for name, part in space.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "parts": [space_to_json(part) for part in space]}
    raise UnsupportedSpaceError(
        f"files hold Box, Discrete and MultiDiscrete spaces, and Dict and Tuple ones of these, but not {space}"
    )


def space_from_json(description: dict[str, Any]) -> spaces.Space[Any]:
    """Rebuild the space that `space_to_json` described."""
    kind = description["kind"]
    if kind == "Box":
        return spaces.Box(description["low"], description["high"], dtype=np.dtype(description["dtype"]).type)
    if kind == "MultiDiscrete":
        dtype = np.dtype(description["dtype"]).type
        return spaces.MultiDiscrete(description["nvec"], dtype=dtype, start=description["start"])
    if kind == "Dict":  # in the stored order: given as pairs, Gymnasium does not sort them
        return spaces.Dict([(name, space_from_json(part)) for name, part in description["parts"]])
    if kind == "Tuple":
        return spaces.Tuple([space_from_json(part) for part in description["parts"]])
    return spaces.Discrete(description["n"], start=description["start"])


def _pack(value: Any, place: str, arrays: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON, with arrays and tensors moved to their own files under their place in the tree."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype != object:
        arrays[place] = value
        return {"$array": place}
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().clone().contiguous()  # safetensors refuses shared memory
        return {"$tensor": place}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _pack(item, f"{place}/{key}", arrays, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_pack(item, f"{place}/{i}", arrays, tensors) for i, item in enumerate(value)]
    raise MbrlGymError(f"{place.strip('/')} cannot be stored: {value!r} is no number, text, array or tensor")


def _unpack(value: Any, arrays: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        return arrays[value["$array"]]
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    return {key: _unpack(item, arrays, tensors) for key, item in value.items()}


def _write_zip(file: Any, parts: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _name(path: FilePath) -> str:
    return os.fspath(path) if isinstance(path, str | os.PathLike) else "the file"


def make_room(module: torch.nn.Module, names: Iterable[str], tensors: dict[str, Any], prefix: str) -> None:
    """Give buffers whose length depends on the data that of the saved ones, before a module loads them."""
    for name in names:
        if prefix + name in tensors:
            setattr(module, name, getattr(module, name).new_zeros(tensors[prefix + name].shape))


def load_tensors(module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy saved tensors into a module of the same shape.

    Raises:
        DamagedFileError: The tensors do not belong to such a module.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise DamagedFileError(f"the file's tensors do not fit {type(module).__name__}: {error}") from error
