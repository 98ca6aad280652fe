-- Stored results: which call a run was, what became of its value, and why a value was or was not used again.

-- Of runs whose value may be used again. identity tells one call from all others of the root flow run; site is what the calls of one task
-- in one parent have in common; arguments is a JSON object of short digests by parameter; problem says why a call has no identity.
CREATE TABLE identity (
    run INTEGER PRIMARY KEY,
    identity BLOB,
    site BLOB NOT NULL,
    arguments TEXT NOT NULL,
    occurrence INTEGER NOT NULL,
    given_key TEXT,
    code BLOB,
    problem TEXT
);

-- A value: inside the history, or an object of a storage. sha256 is that of the bytes.
CREATE TABLE result (
    key INTEGER PRIMARY KEY,
    serializer TEXT NOT NULL,
    storage TEXT,
    object TEXT,
    value BLOB,
    size INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE INDEX result_by_object ON result (object, storage) WHERE object IS NOT NULL;

-- Runs by the result they ended with. inputs is a JSON array with the results that its inputs had.
CREATE TABLE kept (
    run INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL,
    result INTEGER NOT NULL REFERENCES result (key),
    inputs TEXT NOT NULL
);
CREATE INDEX kept_by_result ON kept (result);

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

-- A result is dropped with the last row that refers to it, whoever drops or replaces that; what refers to a result that was dropped
-- meanwhile is not written.
CREATE TRIGGER kept_is_gone AFTER DELETE ON kept BEGIN
    DELETE FROM result WHERE key = old.result
        AND NOT EXISTS (SELECT 1 FROM kept WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM cache WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM unheld WHERE result = old.result);
END;
CREATE TRIGGER kept_is_another AFTER UPDATE OF result ON kept WHEN old.result IS NOT new.result BEGIN
    DELETE FROM result WHERE key = old.result
        AND NOT EXISTS (SELECT 1 FROM kept WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM cache WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM unheld WHERE result = old.result);
END;
CREATE TRIGGER cache_is_gone AFTER DELETE ON cache BEGIN
    DELETE FROM result WHERE key = old.result
        AND NOT EXISTS (SELECT 1 FROM kept WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM cache WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM unheld WHERE result = old.result);
END;
CREATE TRIGGER cache_is_another AFTER UPDATE OF result ON cache WHEN old.result IS NOT new.result BEGIN
    DELETE FROM result WHERE key = old.result
        AND NOT EXISTS (SELECT 1 FROM kept WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM cache WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM unheld WHERE result = old.result);
END;
CREATE TRIGGER unheld_is_gone AFTER DELETE ON unheld BEGIN
    DELETE FROM result WHERE key = old.result
        AND NOT EXISTS (SELECT 1 FROM kept WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM cache WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM unheld WHERE result = old.result);
END;
CREATE TRIGGER unheld_is_another AFTER UPDATE OF result ON unheld WHEN old.result IS NOT new.result BEGIN
    DELETE FROM result WHERE key = old.result
        AND NOT EXISTS (SELECT 1 FROM kept WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM cache WHERE result = old.result)
        AND NOT EXISTS (SELECT 1 FROM unheld WHERE result = old.result);
END;
CREATE TRIGGER kept_of_nothing BEFORE INSERT ON kept WHEN NOT EXISTS (SELECT 1 FROM result WHERE key = new.result) BEGIN
    DELETE FROM kept WHERE run = new.run;
    SELECT RAISE(IGNORE);
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
