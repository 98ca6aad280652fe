"""The key-value store of Ray's head, in which Ray keeps its functions, as the two ends of `RayTaskRunner` use it.

Under the name of a session lies what its workers need to know; below it the tasks and surroundings of its payloads, so that these travel
once to each worker, and for a moment what attempts tell before their end.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

_NAMESPACE = b"prefect_core"


class Session(NamedTuple):
    """What holds for all attempts of one runner: where its process finds modules, and where it looks for what has begun (`ray_begun`)."""

    path: list[str]
    folder: str


class HeadStore:
    """The part of the store that belongs to one session. Every call asks the head, and raises what Ray raises if that doesn't answer."""

    def __init__(self, session: bytes) -> None:
        from ray.experimental import internal_kv  # heavy

        self._kv: Any = internal_kv
        self._session = session

    def open(self, session: Session) -> None:
        """Say what workers are to know."""
        self._kv._internal_kv_put(self._session, pickle.dumps(tuple(session)), namespace=_NAMESPACE)

    def session(self) -> Session | None:
        """Return what was said, or None if the session is over."""
        dumped = self._kv._internal_kv_get(self._session, namespace=_NAMESPACE)
        return Session(*pickle.loads(dumped)) if dumped is not None else None

    def tell_blind(self) -> None:
        """Say that a worker can't write down what it begins."""
        self._kv._internal_kv_put(b"%b/blind" % self._session, b"1", namespace=_NAMESPACE)

    def has_blind(self) -> bool:
        """Tell whether a worker has said so."""
        return self._kv._internal_kv_get(b"%b/blind" % self._session, namespace=_NAMESPACE) is not None

    def put_part(self, number: int, dumped: bytes) -> None:
        """Leave a part of payloads under its number."""
        self._kv._internal_kv_put(b"%b/part/%d" % (self._session, number), dumped, namespace=_NAMESPACE)

    def part(self, number: int) -> bytes | None:
        """Return the part of this number, or None if the session is over."""
        dumped: bytes | None = self._kv._internal_kv_get(b"%b/part/%d" % (self._session, number), namespace=_NAMESPACE)
        return dumped

    def tell(self, number: int, index: int, message: bytes) -> None:
        """Leave the message of an attempt, by its number, for `take_news`."""
        self._kv._internal_kv_put(b"%b/news/%d/%08d" % (self._session, number, index), message, namespace=_NAMESPACE)

    def take_news(self) -> list[tuple[int, bytes]]:
        """Take out the messages that are there, with the numbers of their attempts, those of one attempt in their order."""
        news = []
        for key in sorted(self._kv._internal_kv_list(self._session + b"/news/", namespace=_NAMESPACE)):
            message = self._kv._internal_kv_get(key, namespace=_NAMESPACE)
            self._kv._internal_kv_del(key, namespace=_NAMESPACE)
            if message is not None:
                news.append((int(key.split(b"/")[2]), message))
        return news

    def ask_back(self, number: int, places: list[int]) -> None:
        """Ask the worker of a chunk for some of its members, by their places."""
        self._kv._internal_kv_put(self._key(b"asked", number), pickle.dumps(places), namespace=_NAMESPACE)

    def asked_back(self, number: int) -> list[int] | None:
        """Return which members of a chunk are asked for, None for none; once."""
        places: list[int] | None = self._take(self._key(b"asked", number))
        return places

    def give_back(self, number: int, places: list[int]) -> None:
        """Say which of them will not begin."""
        self._kv._internal_kv_put(self._key(b"given", number), pickle.dumps(places), namespace=_NAMESPACE)

    def given_back(self, number: int) -> list[int] | None:
        """Return which of them will not begin, None if that is not known; once."""
        places: list[int] | None = self._take(self._key(b"given", number))
        return places

    def _key(self, kind: bytes, number: int) -> bytes:
        return b"%b/%b/%d" % (self._session, kind, number)

    def _take(self, key: bytes) -> Any:
        dumped = self._kv._internal_kv_get(key, namespace=_NAMESPACE)
        if dumped is None:
            return None
        self._kv._internal_kv_del(key, namespace=_NAMESPACE)
        return pickle.loads(dumped)

    def clear(self) -> None:
        """Leave nothing behind."""
        try:
            self._kv._internal_kv_del(self._session, del_by_prefix=True, namespace=_NAMESPACE)
        except Exception:
            # It goes with its head.
            return
