"""The history in one SQLite file: `store` for all, `writer` for the recorder, which must start quickly."""
