-- What is to become of flow runs whose process is lost, and which hooks nobody has called.

-- Flow runs of which something is to be done when they end: hooks has the kinds of states that have hooks, apart by spaces; on_crash is
-- the flow's option.
CREATE TABLE ending (
    run INTEGER PRIMARY KEY,
    hooks TEXT NOT NULL,
    on_crash TEXT
);
CREATE INDEX ending_on_crash ON ending (run) WHERE on_crash IS NOT NULL;

-- That the hooks of a state are to be called: at_us is the moment of the state, and is written with it. process is the number of the one
-- that entered the state and calls them; 0 where a lost one would have.
CREATE TABLE owed (
    run INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    process INTEGER NOT NULL,
    PRIMARY KEY (run, at_us)
) WITHOUT ROWID;

-- That somebody calls them, or did: durable before the first of them is called, so that nobody else does.
CREATE TABLE called (
    run INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    called_by TEXT NOT NULL,
    called_us INTEGER NOT NULL,
    PRIMARY KEY (run, at_us)
) WITHOUT ROWID;

-- How often in a row the process of a root flow run was lost without progress in between: kept counts the values that were stored in it
-- until the last time.
CREATE TABLE loss (
    run INTEGER PRIMARY KEY,
    times INTEGER NOT NULL,
    kept INTEGER NOT NULL
);
