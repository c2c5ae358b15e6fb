"""Steps of scripts and their outcomes as text, with all types as they are: 1 is not 1.0."""

from __future__ import annotations

import base64
import io
import pickle
from typing import Any

from homeport.core.patching import REMOVE


class _Packer(pickle.Pickler):
    def persistent_id(self, found: Any) -> str | None:
        return "REMOVE" if found is REMOVE else None


class _Unpacker(pickle.Unpickler):
    def persistent_load(self, name: str) -> Any:
        assert name == "REMOVE"
        return REMOVE


def pack(value: Any) -> str:
    out = io.BytesIO()
    _Packer(out, 4).dump(value)
    return base64.b64encode(out.getvalue()).decode()


def unpack(text: str) -> Any:
    return _Unpacker(io.BytesIO(base64.b64decode(text))).load()
