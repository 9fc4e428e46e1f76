//! Why things ended or were refused: the closed lists of the contract, one word each.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of the contract.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The word in labels, logs and headers.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// The one recorded cause of a session's end.
    EndCause {
        /// The client sent a Close frame, or ended its event stream.
        ClientClosed = "client_closed",
        /// The client's connection ended without a Close frame.
        ClientLost = "client_lost",
        /// The backend sent a Close frame, or ended the event stream properly.
        BackendClosed = "backend_closed",
        /// The backend's connection ended without a Close frame.
        BackendLost = "backend_lost",
        /// Nothing was sent in either direction for `timeouts.idle`.
        IdleTimeout = "idle_timeout",
        /// The session lived for `timeouts.session`.
        SessionTimeout = "session_timeout",
        /// A peer took no byte for `timeouts.write`.
        WriteTimeout = "write_timeout",
        /// The client did not answer a Ping within `keepalive.timeout`.
        KeepaliveTimeout = "keepalive_timeout",
        /// Its backend was drained.
        Drained = "drained",
        /// It was moved to even out the fleet.
        Rebalanced = "rebalanced",
        /// A deadline passed, or a drain with mode `cut`.
        Cut = "cut",
        /// Holdline itself stopped.
        Shutdown = "shutdown",
        /// A peer broke the protocol.
        ProtocolError = "protocol_error",
    }
}

words! {
    /// Why a client got no session (`Holdline-Cause`, label of `refused_total`).
    RefuseCause {
        /// Every backend is full and nobody may wait.
        Capacity = "capacity",
        /// As many wait as may.
        QueueFull = "queue_full",
        /// It waited as long as it may.
        QueueTimeout = "queue_timeout",
        /// The fleet has no backend that takes sessions.
        NoBackend = "no_backend",
        /// Dials failed.
        BackendUnreachable = "backend_unreachable",
        /// The backend answered what no backend may.
        BackendInvalid = "backend_invalid",
        /// A limit of this gateway.
        Limit = "limit",
        /// Holdline is stopping.
        Draining = "draining",
    }
}

words! {
    /// What a backend is doing.
    Phase {
        /// Started, no good heartbeat yet.
        Starting = "starting",
        /// Takes sessions.
        Ready = "ready",
        /// Heartbeats or dials fail: no new sessions, those it has go on.
        Suspect = "suspect",
        /// Takes no new sessions; those it has are moved away.
        Draining = "draining",
        /// Drained and empty.
        Drained = "drained",
        /// Gone.
        Dead = "dead",
    }
}
