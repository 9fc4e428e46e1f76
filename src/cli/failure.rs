//! How a command fails, and with which exit status.

use console::style;

/// Why a command failed. The text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The operation failed, or its deadline passed.
    #[error("{0}")]
    Failed(String),
    /// The command or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// No answer from the admin address.
    #[error("no answer from {admin}: {why}; is `holdline run` running there? --admin or HOLDLINE_ADMIN names another address")]
    NoAnswer {
        /// As it was given.
        admin: String,
        /// The cause.
        why: String,
    },
    /// The reader of our output has closed it (`| head`), which is not an error.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    pub(super) fn exit_status(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::NoAnswer { .. } => 3,
        }
    }

    /// Writes it to stderr.
    pub(super) fn report(&self) {
        if !matches!(self, Failure::OutputClosed) {
            eprintln!("{} {self}", style("error:").red().bold().for_stderr());
        }
    }
}
