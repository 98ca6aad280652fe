"""What is asked of whoever resumes a paused run, or sends to one: a form made of a type, and answers checked by it.

A form is kept as JSON, so that it can be shown by a process that has not loaded the flow: the JSON schema of the type, and the type itself,
pickled, by which answers are checked where it can be loaded. pydantic is loaded by the first pause that wants an input.
"""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

from prefect_core.errors import PrefectException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FIELD = "value"
"""The name of the only field of a form that was made of a type without fields."""
_MOST_BYTES = 65_536


class InvalidInput(PrefectException, ValueError):
    """What was given for a paused run, or sent to one that receives, is not what it waits for, or can't be loaded."""


class Form:
    """What a run waits for."""

    def __init__(self, wanted: Any, *, holds_any: bool = False) -> None:
        """`wanted` is a pydantic model, `RunInput` included, or any type, which becomes the field `value`.

        Only one that `holds_any` may be a class of which pydantic knows nothing: no text can be made of such a form.
        """
        from pydantic import BaseModel, create_model  # only a pause that wants an input loads it

        self.is_bare = not (isinstance(wanted, type) and issubclass(wanted, BaseModel))
        self.wanted = wanted
        self.description: str | None = getattr(wanted, "__description__", None) if not self.is_bare else None
        settings: Any = {"arbitrary_types_allowed": holds_any}
        self.model: type[BaseModel] = (
            create_model("AutomaticRunInput", __config__=settings, value=(wanted, ...)) if self.is_bare else wanted
        )

    def text(self) -> str:
        """Return the form as JSON."""
        schema = self.model.model_json_schema()
        return json.dumps({"description": self.description, "schema": schema, "type": _reference_to(self.wanted)})

    @classmethod
    def of_text(cls, text: str) -> Form | None:
        """Return the form that was made of a type, or None where that can't be loaded."""
        reference = json.loads(text)["type"]
        if reference is None:
            return None
        try:
            return cls(pickle.loads(bytes.fromhex(reference)))
        except Exception:
            # The module may be another one by now, or not be there: the schema is left.
            return None

    def load(self, given: str | None) -> Any:
        """Return what the paused call returns of an answer, JSON. Raises `InvalidInput`."""
        return self._bare(_validated(self.model, json.loads(given) if given is not None else {}))

    def of_json(self, text: str) -> Any:
        """Return what a value is to whoever wants this form: an instance, or the bare value. Raises `InvalidInput`."""
        wrapped = f'{{"{FIELD}": {text}}}' if self.is_bare else text
        return self._bare(_checked(lambda: self.model.model_validate_json(wrapped)))

    def of_value(self, value: Any) -> Any:
        """Return that of a Python value: of a mapping of fields, for a model. Raises `InvalidInput`."""
        wrapped = {FIELD: value} if self.is_bare else value
        return self._bare(_checked(lambda: self.model.model_validate(wrapped)))

    def _bare(self, instance: Any) -> Any:
        return getattr(instance, FIELD) if self.is_bare else instance


def _reference_to(wanted: Any) -> str | None:
    from prefect_core.pickling import dumps as pickled  # loads cloudpickle

    try:
        data = pickled(wanted)
    except Exception:
        # Whatever keeps a type from being pickled: its schema is left.
        return None
    return data.hex() if len(data) <= _MOST_BYTES else None


def answer_text(given: Mapping[str, Any] | Any | None) -> str | None:
    """Return an answer as JSON; None if none was given. Raises `InvalidInput` for what JSON can't hold."""
    if given is None:
        return None
    from pydantic import BaseModel
    from pydantic_core import to_jsonable_python

    try:
        value = given.model_dump(mode="json") if isinstance(given, BaseModel) else to_jsonable_python(dict(given))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"Reason: the input can't be taken: {error}") from error
    return json.dumps(value)


def check(form_text: str | None, given: str | None, form: Form | None = None) -> str | None:
    """Return the answer that is to be kept, with the values that it leaves out; `form` is the form itself where it is at hand.

    Raises `InvalidInput` that says what is wrong with the answer.
    """
    if form_text is None:
        if given not in (None, "{}"):
            raise InvalidInput("Reason: the paused run waits for no input.")
        return None
    form = form or Form.of_text(form_text)
    values = json.loads(given) if given is not None else {}
    if form is None:
        return json.dumps(_fitting(json.loads(form_text)["schema"], values))
    kept: str = _validated(form.model, values).model_dump_json()
    return kept


def _validated(model: Any, values: Mapping[str, Any]) -> Any:
    return _checked(lambda: model.model_validate_json(json.dumps(values)))


def _checked(validate: Callable[[], Any]) -> Any:
    from pydantic import ValidationError

    try:
        return validate()
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        lines = [f"{'.'.join(map(str, detail['loc'])) or 'input'}: {detail['msg']}" for detail in details]
        raise InvalidInput(f"Reason: {'; '.join(lines)}") from error


_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _fitting(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Check an answer by the form's names and plain kinds alone; the rest is checked when the flow has it."""
    known: Mapping[str, Any] = schema.get("properties", {})
    wrong = [f"{name}: Field required" for name in schema.get("required", ()) if name not in values]
    for name, value in values.items():
        kinds = _KINDS.get(known.get(name, {}).get("type", ""))
        is_number_for_bool = isinstance(value, bool) and kinds is not None and bool not in kinds
        if name not in known:
            wrong.append(f"{name}: The form has no such field")
        elif kinds is not None and (not isinstance(value, kinds) or is_number_for_bool):
            wrong.append(f"{name}: Input should be a valid {known[name]['type']}")
    if wrong:
        raise InvalidInput(f"Reason: {'; '.join(wrong)}")
    return dict(values)


def keyset_of(is_suspended: bool, key: str) -> dict[str, str]:
    """Return the names under which Prefect's users find the parts of a form."""
    base = f"{'suspended' if is_suspended else 'paused'}-{key}"
    return {part: f"{base}-{part}" for part in ("description", "response", "schema")}
