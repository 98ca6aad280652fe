-- A task run is one row as long as is_plain says that its states and its attempt so far stand nowhere else: also one that was created and
-- has told nothing else yet, and one that ended, in whatever state, without an attempt.
DROP VIEW every_state;
DROP VIEW every_attempt;
CREATE VIEW every_state AS SELECT run, seq, attempt, type, name, message, timestamp_us, details FROM state
    UNION ALL SELECT key, 0, 0, 'PENDING', 'Pending', NULL, created_us, NULL FROM task_run WHERE is_plain
    UNION ALL SELECT key, 1, 1, 'RUNNING', 'Running', NULL, started_us, NULL FROM task_run WHERE is_plain AND started_us IS NOT NULL
    UNION ALL SELECT key, 2, 1, 'COMPLETED', 'Completed', NULL, ended_us, NULL FROM task_run
        WHERE is_plain AND started_us IS NOT NULL AND ended_us IS NOT NULL
    UNION ALL SELECT key, 1, 0, state_type, state_name, state_message, ended_us, NULL FROM task_run
        WHERE is_plain AND started_us IS NULL AND ended_us IS NOT NULL;
CREATE VIEW every_attempt AS SELECT run, attempt, started_us, ended_us, state_type, state_name, worker FROM attempt
    UNION ALL SELECT key, 1, started_us, ended_us, state_type, state_name, worker FROM task_run WHERE is_plain AND started_us IS NOT NULL;

-- Whoever adds to such a run says is_plain = 0, and finds rows to add to.
CREATE TRIGGER task_run_unfolded BEFORE UPDATE OF is_plain ON task_run WHEN old.is_plain AND NOT new.is_plain BEGIN
    INSERT INTO state (run, seq, attempt, type, name, message, timestamp_us, details)
        SELECT run, seq, attempt, type, name, message, timestamp_us, details FROM every_state WHERE run = old.key ON CONFLICT DO NOTHING;
    INSERT INTO attempt (run, attempt, started_us, ended_us, state_type, state_name, worker)
        SELECT run, attempt, started_us, ended_us, state_type, state_name, worker FROM every_attempt WHERE run = old.key
        ON CONFLICT DO NOTHING;
END;
