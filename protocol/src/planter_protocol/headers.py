"""Header names. NATS keeps their case (ADR-4), so they are written here exactly, once."""

MSG_ID = "Nats-Msg-Id"
"""JetStream drops a second message with the same id inside the stream's duplicate window."""
EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
"""Compare-and-set: the append succeeds only if this is still the subject's last sequence."""
EXPECTED_STREAM = "Nats-Expected-Stream"
SEQUENCE = "Nats-Sequence"
"""On republished and directly read messages: the stream sequence."""
LAST_SEQUENCE = "Nats-Last-Sequence"
"""On republished messages: the previous sequence of the same subject; in a batch that is read directly
(ADR-31): the previous sequence of the batch, 0 at first. A mismatch is a gap."""
NUM_PENDING = "Nats-Num-Pending"
SUBJECT = "Nats-Subject"
TIME_STAMP = "Nats-Time-Stamp"

REASON = "Planter-Reason"
"""On dead letters: why the input was not read."""
