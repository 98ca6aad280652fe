"""Values as JSON that anybody can read, and that come back as what they were."""

from __future__ import annotations

import json
from typing import Any

from prefect_core.errors import SerializationError
from prefect_core.serializers import (
    Serializer,
    check_code_is_allowed,
    describe_unserializable,
    import_function,
    import_library,
)
from prefect_serializers.json_trees import TAG, from_tree, to_tree

_KNOWN_LIBRARIES = frozenset({"json", "orjson", "rapidjson", "simplejson", "ujson"})
_TAG_IN_TEXT = f'"{TAG}"'.encode()


class JSONSerializer(Serializer):
    """JSON, in which pydantic models, dataclasses, dates, sets and their like are marked with their class (`json_trees` has the list).

    `jsonlib` names a module with `dumps` and `loads`, which `dumps_kwargs` and `loads_kwargs` are given to. `object_encoder` and
    `object_decoder` are dotted names of functions that replace our form for what JSON has none for: they are called as the standard
    library's `default` and `object_hook`.
    """

    name = "json"
    advice = 'Return plain data or a pydantic model, or store it with result_serializer="pickle".'

    def __init__(
        self,
        jsonlib: str = "json",
        object_encoder: str | None = None,
        object_decoder: str | None = None,
        dumps_kwargs: dict[str, Any] | None = None,
        loads_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self._given = {
            "jsonlib": jsonlib if jsonlib != "json" else None,
            "object_encoder": object_encoder,
            "object_decoder": object_decoder,
            "dumps_kwargs": dumps_kwargs or None,
            "loads_kwargs": loads_kwargs or None,
        }
        self._to_text: dict[str, Any] = _keywords("dumps_kwargs", dumps_kwargs, "default", "object_encoder")
        self._from_text = _keywords("loads_kwargs", loads_kwargs, "object_hook", "object_decoder")
        # What was chosen where the value was stored may name any code to who loads it.
        self.executes_code = bool(object_encoder or object_decoder) or jsonlib not in _KNOWN_LIBRARIES
        if self.executes_code:
            check_code_is_allowed("A JSON serializer with functions or a library of one's own")
        self._library: Any = json if jsonlib == "json" else import_library("jsonlib", jsonlib)
        self._encoder = import_function("object_encoder", object_encoder) if object_encoder else None
        self._decoder = import_function("object_decoder", object_decoder) if object_decoder else None
        if jsonlib == "json" and not dumps_kwargs:
            self._to_text = {"separators": (",", ":")}

    def options(self) -> dict[str, Any]:
        """Return what was given."""
        return {name: value for name, value in self._given.items() if value is not None}

    def dumps(self, value: Any) -> bytes:
        """Return the JSON text. Raises `SerializationError`."""
        try:
            return self.attempt(value)
        except Exception as failure:
            raise SerializationError(describe_unserializable(self, value, failure)) from failure

    def attempt(self, value: Any) -> bytes:
        """Do the work of `dumps`, raising whatever a part raises."""
        if self._encoder is not None:
            text = self._library.dumps(value, default=self._encoder, **self._to_text)
        else:
            text = self._library.dumps(to_tree(value), **self._to_text)
        return text if isinstance(text, bytes) else text.encode()

    def loads(self, data: bytes) -> Any:
        """Make the value again. Raises `SerializationError` for what can't be, or names a class of the wrong kind."""
        if self._decoder is not None:
            return self._library.loads(data, object_hook=self._decoder, **self._from_text)
        try:
            tree = self._library.loads(data, **self._from_text)
        except ValueError as error:
            raise SerializationError(f"This is no JSON: {error}.") from error
        return from_tree(tree) if _TAG_IN_TEXT in data else tree


def _keywords(option: str, given: dict[str, Any] | None, taken: str, instead: str) -> dict[str, Any]:
    if given and taken in given:
        raise ValueError(f"{taken!r} can't be given in {option}; use {instead} for it.")
    try:
        json.dumps(given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option} is kept as JSON, to be found again by who loads, and can't be: {error}.") from error
    return dict(given or {})
