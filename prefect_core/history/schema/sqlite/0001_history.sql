-- Runs, their attempts, their states and their log records.

-- One row for each process that ever wrote: its number is the upper half of the keys it gives (key = number << 32 | n).
CREATE TABLE process (
    number INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_started INTEGER NOT NULL,
    opened_us INTEGER NOT NULL,
    version TEXT NOT NULL
);

CREATE TABLE flow_run (
    key INTEGER PRIMARY KEY,
    uid BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    flow_name TEXT NOT NULL,
    flow_version TEXT,
    entrypoint TEXT,
    runner TEXT NOT NULL,
    parameters TEXT NOT NULL,
    tags TEXT,
    parent_task_run INTEGER REFERENCES task_run (key),
    parent_flow_run INTEGER REFERENCES flow_run (key),
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER,
    run_count INTEGER NOT NULL,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    state_message TEXT,
    state_us INTEGER NOT NULL
);
CREATE INDEX flow_run_by_parent ON flow_run (parent_flow_run) WHERE parent_flow_run IS NOT NULL;
CREATE INDEX flow_run_by_task_run ON flow_run (parent_task_run) WHERE parent_task_run IS NOT NULL;

-- name is null where it is task_name-idx; inputs is a JSON array of [parameter, kind, id], null where there are none.
CREATE TABLE task_run (
    key INTEGER PRIMARY KEY,
    uid BLOB NOT NULL UNIQUE,
    flow_run INTEGER REFERENCES flow_run (key),
    parent_task_run INTEGER REFERENCES task_run (key),
    task_name TEXT NOT NULL,
    task_key TEXT NOT NULL,
    idx INTEGER NOT NULL,
    name TEXT,
    tags TEXT,
    inputs TEXT,
    created_us INTEGER NOT NULL,
    started_us INTEGER,
    ended_us INTEGER,
    run_count INTEGER NOT NULL,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    state_message TEXT,
    state_us INTEGER NOT NULL,
    worker TEXT NOT NULL
);
CREATE INDEX task_run_by_flow_run ON task_run (flow_run);

-- run is a key of flow_run or of task_run, here and below: the two share one key space.
CREATE TABLE attempt (
    run INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    started_us INTEGER NOT NULL,
    ended_us INTEGER,
    state_type TEXT NOT NULL,
    state_name TEXT NOT NULL,
    worker TEXT NOT NULL,
    PRIMARY KEY (run, attempt)
) WITHOUT ROWID;

CREATE TABLE state (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    message TEXT,
    timestamp_us INTEGER NOT NULL,
    details TEXT,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE TABLE log (
    key INTEGER PRIMARY KEY,
    run INTEGER,
    level INTEGER NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    timestamp_us INTEGER NOT NULL
);
CREATE INDEX log_by_run ON log (run) WHERE run IS NOT NULL;

-- What is known of the history as a whole, as missing_rows_since_<moment>.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
