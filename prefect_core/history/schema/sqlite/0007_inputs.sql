-- What was sent to flow runs while they were under way.

-- number: order of arrival. Rows go with their run alone, so that a later one of the same run never has a lower number. channel: by which
-- receivers choose; key: by which they tell one input from another. value: JSON, or a pickle of what JSON does not hold.
CREATE TABLE input (
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    channel TEXT NOT NULL,
    key TEXT NOT NULL,
    sender TEXT,
    sent_us INTEGER NOT NULL,
    is_pickled INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX input_of_run ON input (run, channel, number);
