"""What stands beside Dask's scheduler while a flow run uses it, so that no body runs twice behind the engine's back.

Dask runs a task again when the worker that ran it ends, and a finished one when the worker that holds its value does; whatever
`allowed-failures` says. For the tasks of one client the guard makes each native execution the only one: a task that was with a worker that
ended, fails; a finished one is from then on mere data, which can be lost but not computed again. The engine decides what follows.

It also hands replies on to the client, which come as metadata of the tasks that ended.
"""

from __future__ import annotations

from typing import Any

from distributed import Scheduler, SchedulerPlugin

REPLY = "prefect_core.reply"
"""The kind of message, and the name in a task's metadata, of how an attempt ended."""
FOLDER = "prefect_core.folder"
"""The kind of message that says where a worker has its files, which tell what it had begun once it is gone."""


class Guard(SchedulerPlugin):  # type: ignore[misc]  # Dask is left untyped
    """Guards the tasks whose keys end with `mark`; goes away with its client."""

    def __init__(self, mark: str, topic: str, client: str) -> None:
        self.name = topic
        self._mark = mark
        self._topic = topic
        self._client = client
        self._scheduler: Any = None

    async def start(self, scheduler: Scheduler) -> None:
        """Take note of the scheduler."""
        self._scheduler = scheduler
        for worker in self._scheduler.workers:
            self.add_worker(scheduler, worker)

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Tell the client of a worker as long as there is something to be told."""
        state: Any = scheduler
        self._send((FOLDER, worker, state.workers[worker].local_directory))

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Keep Dask from making a task of ours run again."""
        if type(key) is not str or not key.endswith(self._mark):
            return
        task = self._scheduler.tasks.get(key)
        if task is None:
            return
        if finish == "processing":
            # The first worker that ends with it is one too many.
            task.suspicious = max(task.suspicious, self._scheduler.allowed_failures)
        elif finish == "memory":
            task.run_spec = None
            self._hand_on(key, task, kwargs.get("metadata"))
        elif start == "processing" and finish == "released":
            # Its worker left in good order, or an input of it is gone: it would be given to another.
            task.has_lost_dependencies = True

    def _hand_on(self, key: str, task: Any, metadata: Any) -> None:
        """Send the client the reply that came with the news of a task's end, which spares all of them a message of its own."""
        reply = metadata.pop(REPLY, None) if metadata else None
        if reply is None:
            return
        task.metadata.pop(REPLY, None)
        self._send((REPLY, key, reply))

    def _send(self, message: tuple[str, str, Any]) -> None:
        stream = self._scheduler.client_comms.get(self._client)
        if stream is not None:
            stream.send({"op": "event", "topic": self._topic, "event": (0, message)})

    def log_event(self, topic: str, msg: Any) -> None:
        """Keep nothing of what has just been sent to the client: Dask would hold the last thousands."""
        if topic == self._topic:
            events = self._events()
            if events is not None:
                events.clear()

    def _events(self) -> Any:
        broker = getattr(self._scheduler, "_broker", None)
        if broker is not None:
            return broker._topics[self._topic].events if self._topic in broker._topics else None
        return self._scheduler.events.get(self._topic)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Leave no trace when the flow run has ended, however it did."""
        if client != self._client:
            return
        state: Any = scheduler
        broker = getattr(state, "_broker", None)
        if broker is not None:
            broker.unsubscribe("all", client)
            broker._topics.pop(self._topic, None)
        else:
            state.event_subscriber["all"].discard(client)
            state.event_subscriber.pop(self._topic, None)
            state.events.pop(self._topic, None)
            state.event_counts.pop(self._topic, None)
        state.plugins.pop(self.name, None)
