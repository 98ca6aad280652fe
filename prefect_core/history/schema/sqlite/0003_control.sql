-- Which processes own runs and still live, and what others ask of them.

-- Text of /proc/self/ns/pid; empty where the system does not tell, or /proc shows another namespace.
ALTER TABLE process ADD COLUMN pid_namespace TEXT NOT NULL DEFAULT '';

-- One row for each process that may have runs that have not ended; a process that ends without any takes its row along. expires_us is on
-- the monotonic clock of the process's machine, length_us ahead of when it last said that it lives. let_go_us: it ended and left runs
-- open. taken_by: somebody declared it dead, and ended its runs; both moments are wall microseconds. seen_*: the expiry that the machine
-- with that boot id found, and when by its own monotonic clock, where the two clocks can't be compared.
CREATE TABLE lease (
    process INTEGER PRIMARY KEY REFERENCES process (number),
    expires_us INTEGER NOT NULL,
    length_us INTEGER NOT NULL,
    let_go_us INTEGER,
    taken_by TEXT,
    taken_us INTEGER,
    seen_by TEXT,
    seen_us INTEGER,
    seen_expires_us INTEGER
);

-- Processes of earlier versions said nothing.
INSERT INTO lease (process, expires_us, length_us)
    SELECT number, 0, 60000000 FROM process WHERE number IN (
        SELECT key >> 32 FROM flow_run WHERE state_type NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED')
        UNION SELECT key >> 32 FROM task_run WHERE state_type NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED')
        UNION SELECT process FROM reopened JOIN flow_run ON flow_run.key = run
            WHERE state_type NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED'));

-- What somebody asks of the process that runs a flow run. detail and answer are JSON objects.
CREATE TABLE request (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_us INTEGER NOT NULL,
    answered_us INTEGER,
    answer TEXT
);
CREATE INDEX request_by_run ON request (run);
CREATE INDEX request_unanswered ON request (run) WHERE answered_us IS NULL;
