-- Stored results: which call a run was, what became of its value, and why a value was or was not used again.

-- A task run that has nothing to tell but its times, since it went Pending, Running and Completed in one attempt, is one row: is_plain says
-- that its states and its attempt stand nowhere else. Whatever changes such a run gives them rows of their own first.
ALTER TABLE task_run ADD COLUMN is_plain INTEGER NOT NULL DEFAULT 0;
CREATE VIEW every_state AS SELECT run, seq, attempt, type, name, message, timestamp_us, details FROM state
    UNION ALL SELECT key, 0, 0, 'PENDING', 'Pending', NULL, created_us, NULL FROM task_run WHERE is_plain
    UNION ALL SELECT key, 1, 1, 'RUNNING', 'Running', NULL, started_us, NULL FROM task_run WHERE is_plain
    UNION ALL SELECT key, 2, 1, 'COMPLETED', 'Completed', NULL, ended_us, NULL FROM task_run WHERE is_plain;
CREATE VIEW every_attempt AS SELECT run, attempt, started_us, ended_us, state_type, state_name, worker FROM attempt
    UNION ALL SELECT key, 1, started_us, ended_us, state_type, state_name, worker FROM task_run WHERE is_plain;

-- A value: inside the history, or an object of a storage. sha256 is that of the bytes; run is the one that it was made as the value of.
CREATE TABLE result (
    key INTEGER PRIMARY KEY,
    serializer TEXT NOT NULL,
    storage TEXT,
    object TEXT,
    value BLOB,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    run INTEGER,
    created_us INTEGER NOT NULL
);
CREATE INDEX result_by_object ON result (object, storage) WHERE object IS NOT NULL;

-- Runs whose value may be used again. By what a call is known: identity tells it from all others of the root flow run; site is what the
-- calls of one task in one parent have in common; arguments is a JSON object of short digests by parameter; problem says why a call has no
-- identity. What was kept of its value: attempt ended with result; inputs is a JSON array with the results that its inputs had. Both in one
-- row, and an index for shared results only, since each page more is felt in the commit of a small result.
CREATE TABLE call (
    run INTEGER PRIMARY KEY,
    identity BLOB,
    site BLOB,
    arguments TEXT,
    occurrence INTEGER,
    given_key TEXT,
    code BLOB,
    problem TEXT,
    attempt INTEGER,
    result INTEGER REFERENCES result (key),
    is_shared INTEGER NOT NULL DEFAULT FALSE,
    inputs TEXT
);
CREATE INDEX call_by_shared_result ON call (result) WHERE is_shared;

-- What was kept. Whoever adds to it need not know who made the result; of a result that was dropped meanwhile nothing is kept.
CREATE VIEW kept AS SELECT run, attempt, result, inputs FROM call WHERE result IS NOT NULL;
CREATE TRIGGER kept_row INSTEAD OF INSERT ON kept BEGIN
    INSERT INTO call (run, attempt, result, is_shared, inputs)
        SELECT new.run, new.attempt, key, key IS NOT NULL AND result.run IS NOT new.run, new.inputs
        FROM (SELECT new.result AS told) LEFT JOIN result ON key = told WHERE TRUE
        ON CONFLICT (run) DO UPDATE SET
            attempt = excluded.attempt, result = excluded.result, is_shared = excluded.is_shared, inputs = excluded.inputs;
END;

-- Runs by the result that they have.
CREATE VIEW holder (result, run) AS
    SELECT result.key, call.run FROM result JOIN call ON call.run = result.run AND call.result = result.key AND NOT is_shared
    UNION ALL SELECT result, run FROM call WHERE is_shared;

-- Results whose object another history wrote, which is not for this one to delete.
CREATE TABLE borrowed (
    result INTEGER PRIMARY KEY REFERENCES result (key)
);

-- Flow runs with parameters that JSON can't hold: names is a JSON array of these, result holds a dict of them if they were stored.
CREATE TABLE unheld (
    run INTEGER PRIMARY KEY,
    names TEXT NOT NULL,
    result INTEGER REFERENCES result (key)
);
CREATE INDEX unheld_by_result ON unheld (result) WHERE result IS NOT NULL;

-- Results by cache key; run is one that has the result.
CREATE TABLE cache (
    key TEXT PRIMARY KEY,
    result INTEGER NOT NULL REFERENCES result (key),
    run INTEGER NOT NULL,
    expires_us INTEGER,
    created_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_by_result ON cache (result);
CREATE INDEX cache_by_run ON cache (run);

-- Whether a call took an earlier result, and why: one row for each time it was asked, and one if a stored result was dropped.
CREATE TABLE verdict (
    run INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (run, at_us)
) WITHOUT ROWID;

-- Flow runs that were started again: process is the number of the one that did, attempt the first attempt it may make. A process that
-- ended before it made that leaves it to the next.
CREATE TABLE reopened (
    run INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    process INTEGER NOT NULL,
    asked_by TEXT NOT NULL,
    PRIMARY KEY (run, at_us)
) WITHOUT ROWID;

-- Objects whose result is gone, until they are deleted too; written_us is when they were recorded last.
CREATE TABLE doomed (
    storage TEXT NOT NULL,
    object TEXT NOT NULL,
    written_us INTEGER NOT NULL,
    PRIMARY KEY (storage, object)
) WITHOUT ROWID;

-- Who computes the value of a cache key, or is inside a transaction with it. expires_us is the end that the holder has set, if any;
-- renewed_us when its process last said that it still holds it.
CREATE TABLE lock (
    key TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    process INTEGER NOT NULL,
    expires_us INTEGER,
    renewed_us INTEGER NOT NULL
) WITHOUT ROWID;

-- What refers to a result, once for each row that does.
CREATE VIEW reference (result) AS
    SELECT result FROM holder UNION ALL SELECT result FROM cache UNION ALL SELECT result FROM unheld WHERE result IS NOT NULL;

-- A result is dropped with the last row that refers to it, whoever drops or replaces that; what refers to a result that was dropped
-- meanwhile is not written.
CREATE TRIGGER kept_is_gone AFTER DELETE ON call BEGIN
    DELETE FROM result WHERE key = old.result AND NOT EXISTS (SELECT 1 FROM reference WHERE result = old.result);
END;
CREATE TRIGGER kept_is_another AFTER UPDATE OF result ON call WHEN old.result IS NOT new.result BEGIN
    DELETE FROM result WHERE key = old.result AND NOT EXISTS (SELECT 1 FROM reference WHERE result = old.result);
END;
CREATE TRIGGER cache_is_gone AFTER DELETE ON cache BEGIN
    DELETE FROM result WHERE key = old.result AND NOT EXISTS (SELECT 1 FROM reference WHERE result = old.result);
END;
CREATE TRIGGER cache_is_another AFTER UPDATE OF result ON cache WHEN old.result IS NOT new.result BEGIN
    DELETE FROM result WHERE key = old.result AND NOT EXISTS (SELECT 1 FROM reference WHERE result = old.result);
END;
CREATE TRIGGER unheld_is_gone AFTER DELETE ON unheld BEGIN
    DELETE FROM result WHERE key = old.result AND NOT EXISTS (SELECT 1 FROM reference WHERE result = old.result);
END;
CREATE TRIGGER unheld_is_another AFTER UPDATE OF result ON unheld WHEN old.result IS NOT new.result BEGIN
    DELETE FROM result WHERE key = old.result AND NOT EXISTS (SELECT 1 FROM reference WHERE result = old.result);
END;
CREATE TRIGGER cache_of_nothing BEFORE INSERT ON cache WHEN NOT EXISTS (SELECT 1 FROM result WHERE key = new.result) BEGIN
    DELETE FROM cache WHERE key = new.key;
    SELECT RAISE(IGNORE);
END;

-- The object of a result is doomed with the last row that names it, unless it is borrowed.
CREATE TRIGGER result_is_gone AFTER DELETE ON result WHEN old.object IS NOT NULL BEGIN
    INSERT INTO doomed SELECT old.storage, old.object, old.created_us
        WHERE NOT EXISTS (SELECT 1 FROM result WHERE object = old.object AND storage = old.storage)
        AND NOT EXISTS (SELECT 1 FROM borrowed WHERE result = old.key)
        ON CONFLICT (storage, object) DO UPDATE SET written_us = max(written_us, excluded.written_us);
    DELETE FROM borrowed WHERE result = old.key;
END;
