-- Concurrency limits: how many slots a name has, who holds some, and who waits for some. What is taken is never counted, only summed up.

-- The limit on a tag is the one called tag:TAG. Of one with a decay, slots come back at that rate: level is how many had not at level_us.
CREATE TABLE concurrency_limit (
    name TEXT PRIMARY KEY,
    slots INTEGER NOT NULL,
    decay_per_second REAL NOT NULL,
    level REAL NOT NULL,
    level_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL
) WITHOUT ROWID;

-- Who holds slots (granted_us is set) or waits for them, by order of arrival. owner is the run, or the block in run, whose slots they
-- are; renewed_us is when its process last said that it lives, and lease_us for how long that is believed where nobody can see it.
CREATE TABLE slot_request (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    owner BLOB NOT NULL,
    run BLOB,
    label TEXT NOT NULL,
    process INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    is_rate INTEGER NOT NULL,
    lease_us INTEGER NOT NULL,
    asked_us INTEGER NOT NULL,
    granted_us INTEGER,
    renewed_us INTEGER NOT NULL
);
CREATE INDEX slot_request_by_process ON slot_request (process, granted_us);

-- What a request asks of each limit. lender is the request inside which it is made, if that holds slots of the same limit: it then takes
-- of those; 0 for the limit's own. rank is the priority, negated, so that the index has the order in which waiters get their turn.
CREATE TABLE slot_claim (
    request INTEGER NOT NULL REFERENCES slot_request (key),
    name TEXT NOT NULL,
    lender INTEGER NOT NULL,
    occupy INTEGER NOT NULL,
    is_waiting INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    PRIMARY KEY (request, name)
) WITHOUT ROWID;
CREATE INDEX slot_claim_in_order ON slot_claim (name, lender, is_waiting, rank, request, occupy);
CREATE INDEX slot_claim_held ON slot_claim (name, request) WHERE is_waiting = 0;
CREATE INDEX slot_claim_by_lender ON slot_claim (lender, name) WHERE lender;
