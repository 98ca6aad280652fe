"""Runs under control: finding dead owners (`reaping`), asking the owner of a run for something (`asking`), and being asked (`steward`).

Only the process that owns a run writes its states. Everybody else leaves a request in the history and waits for the answer, or, where the
owner is dead, takes its lease first.
"""
