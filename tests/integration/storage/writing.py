"""A program that writes one object into a local storage, at the mercy of whoever runs it.

    python -m tests.integration.storage.writing FOLDER KEY BYTE [--size N] [--retry SECONDS]

It says `acked SHA256` once `write` has returned, `failed REASON` if that raised.
"""

from __future__ import annotations

import argparse
import os

from prefect_core import settings
from prefect_core.errors import StorageError
from prefect_core.storage.local import LocalStorage


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder")
    options.add_argument("key")
    options.add_argument("byte", type=int)
    options.add_argument("--size", type=int, default=2_500_000)
    options.add_argument("--retry", type=float, default=0.0)
    given = options.parse_args()
    with settings.temporary_settings(storage_retry_seconds=given.retry):
        try:
            written = LocalStorage(given.folder).write(given.key, [bytes([given.byte]) * given.size])
        except StorageError as error:
            say(f"failed {error}")
        else:
            say(f"acked {written.sha256.hex()}")


def say(line: str) -> None:
    # Not by `write`, which is made to fail.
    os.writev(1, [line.encode()])


if __name__ == "__main__":
    main()
