//! Faults put in on purpose: each must be caught, or the checker is no checker.

/// One fault between State and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Everything as it should be.
    None,
    /// The gateway lets one more in than the snapshot says.
    LimitOneTooHigh,
    /// The gateway goes on placing sessions on a draining backend.
    DrainStaysOpen,
    /// Nobody is cut at a deadline.
    CutForgotten,
    /// The seat is given back at our own close, before the backend saw it.
    SeatFreedEarly,
    /// A dial that fails keeps its seat for ever.
    SeatLeaked,
    /// An order to end sessions ends those again that are ending.
    EndedTwice,
    /// An order of a rebalance ends twice as many as it says.
    OrderedTwice,
    /// A client is refused while there is room in the queue.
    RefuseEarly,
    /// A client that waits after a failed dial may be sent back to where it failed.
    FailureForgotten,
    /// A session that a backend began by itself takes no seat.
    ExecutedUncounted,
    /// A draining backend is reported as empty before it is.
    ReportEmpty,
    /// Heartbeats go on being delivered for a backend that is silent.
    SilenceUnheard,
    /// State is ticked while nobody else in the process runs.
    StandstillLivedThrough,
    /// An operator's whim: the number of backends is fixed high and low in turn.
    Oscillate,
}
