"""JSON to and from frozen, typed specs, with errors that name the field."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar, Self

import msgspec

from dlts_beam.errors import DltsError


class JsonSpec:
    """Mixin for frozen dataclasses that travel as JSON.

    Subclasses set ``KIND`` (what the file is called in messages) and ``VERSION``; a dataclass field
    named ``version`` must default to ``VERSION``. Fields of ``NOT_IN_DIGEST`` tell specs apart in nothing.
    """

    KIND: ClassVar[str] = "spec"
    VERSION: ClassVar[int] = 1
    NOT_IN_DIGEST: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> str:
        """Return indented JSON with sorted keys: equal specs give equal bytes."""
        return _dumps(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "") -> Self:
        """Parse and validate; ``where`` is the file named in errors.

        Raises:
            DltsError: the text is not JSON, a field is missing or wrong (it is named), or the file
                was written by a version that this one cannot read.
        """
        place = f" {where}" if where else ""
        try:
            raw = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise DltsError(f"the {cls.KIND}{place} is not valid JSON: {error}") from error
        version = raw.get("version") if isinstance(raw, dict) else None
        if version != cls.VERSION:
            raise DltsError(
                f"the {cls.KIND}{place} has version {version!r}, and this dlts-beam reads version"
                f" {cls.VERSION}: make it again with this version"
            )
        try:
            spec = msgspec.convert(raw, type=cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise DltsError(f"the {cls.KIND}{place} is not valid: {error}") from error
        spec.check_read(raw, place)
        return spec

    def check_read(self, raw: dict[str, Any], place: str) -> None:
        """What a kind of file must hold beyond its types: here nothing.

        Args:
            raw: the JSON object as it was read.
            place: the file after a space, for the sentence; empty where it has no name.

        Raises:
            DltsError: the file must not be used.
        """

    def canonical(self) -> Self:
        """The spec as it comes back from its own JSON: 1 is 1.0 where the field is a float."""
        return msgspec.convert(msgspec.to_builtins(self), type=type(self))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hex digits: the same before and after a round trip."""
        builtins = msgspec.to_builtins(self.canonical())
        counted = {name: value for name, value in builtins.items() if name not in self.NOT_IN_DIGEST}
        return hashlib.sha256(_dumps(counted).encode()).hexdigest()


def unknown_fields(raw: Any, known: Any, inside: str = "") -> list[str]:
    """Dotted names of the fields in ``raw`` that reading lost: those that are not in ``known``.

    Args:
        raw: a JSON value as it was read.
        known: the same as it would be written again, defaults included.
        inside: name of the value in the file.
    """
    if isinstance(raw, dict) and isinstance(known, dict):
        names = [(f"{inside}.{key}" if inside else key, key) for key in raw]
        lost = [name for name, key in names if key not in known]
        kept = [(name, raw[key], known[key]) for name, key in names if key in known]
    elif isinstance(raw, list) and isinstance(known, list | tuple):
        lost = []
        kept = [(f"{inside}[{k}]", *pair) for k, pair in enumerate(zip(raw, known, strict=False))]
    else:
        return []
    return lost + [name for part in kept for name in unknown_fields(part[1], part[2], part[0])]


def _dumps(builtins: Any) -> str:
    return json.dumps(builtins, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of any JSON-able or msgspec-able value in canonical form."""
    builtins = msgspec.to_builtins(value)
    text = json.dumps(builtins, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
