-- When flow runs were paused, until when they may be resumed, and by whom they were.

-- form: what is asked of whoever resumes the run; input: what they gave; both JSON. is_suspended: no process waits for the resume. left_us:
-- when what had begun before it was suspended had ended, after which nothing but a resume moves the run. is_forgotten: the run ended by
-- a failure or was cancelled since, so the key may fire once more.
CREATE TABLE pause (
    run INTEGER NOT NULL,
    paused_us INTEGER NOT NULL,
    key TEXT NOT NULL,
    is_suspended INTEGER NOT NULL,
    until_us INTEGER,
    form TEXT,
    left_us INTEGER,
    resumed_us INTEGER,
    resumed_by TEXT,
    input TEXT,
    is_forgotten INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, paused_us)
) WITHOUT ROWID;
-- Those that whoever looks must look at.
CREATE INDEX pause_open ON pause (until_us) WHERE is_suspended AND resumed_us IS NULL AND NOT is_forgotten;
