//! Stub: owner replaces.
