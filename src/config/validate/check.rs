//! Shared by all checks: the list of problems, and common checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::Programs;
use super::super::error::Problem;
use super::super::located::At;
use super::super::units::{OrNone, Period};

/// State of the validation.
pub(super) struct Check<'a> {
    /// Base directory of relative paths.
    base: &'a Path,
    /// Whether programs are looked up.
    pub(super) programs: Programs,
    /// The line for missing keys: that of the current fleet, or 1.
    pub(super) home: u64,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Check<'a> {
    pub(super) fn new(base: &'a Path, programs: Programs) -> Self {
        Check { base, programs, home: 1, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Records a problem on `line`; 0: on the surrounding line.
    pub(super) fn wrong(&mut self, line: u64, what: impl Into<String>, remedy: impl Into<String>) {
        let line = if line == 0 { self.home } else { line };
        self.problems.push(Problem { line, what: what.into(), remedy: remedy.into() });
    }

    /// Records a warning.
    pub(super) fn odd(&mut self, line: u64, what: impl Into<String>, remedy: impl Into<String>) {
        let line = if line == 0 { self.home } else { line };
        self.warnings.push(Problem { line, what: what.into(), remedy: remedy.into() });
    }

    /// The warnings as text.
    pub(super) fn warnings(&self, file: &str) -> Vec<String> {
        self.warnings.iter().map(|Problem { line, what, remedy }| format!("{file}:{line}: {what}; {remedy}")).collect()
    }

    /// A duration above zero.
    pub(super) fn positive(&mut self, key: &str, raw: &At<Period>) -> Duration {
        if raw.value.0.is_zero() {
            self.wrong(raw.line, format!("{key} is {}", raw.value), "use a duration above zero");
        }
        raw.value.0
    }

    /// A duration above zero, or none.
    pub(super) fn positive_or_none(&mut self, key: &str, raw: &At<OrNone<Period>>) -> Option<Duration> {
        let period = raw.value.0?;
        if period.0.is_zero() {
            self.wrong(raw.line, format!("{key} is {period}"), "use a duration above zero, or none");
        }
        Some(period.0)
    }

    /// `path`, from the directory of the file.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        // Through its components, so that `./` does not stay in the middle.
        self.base.join(path).components().collect()
    }

    /// In the order of the file; those of one line in the order in which they were found.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| p.line);
        self.problems
    }
}

/// The later of two lines, where a contradiction is reported. Zero (a default) is never the later one.
pub(super) fn later<A, B>(a: &At<A>, b: &At<B>) -> u64 {
    a.line.max(b.line)
}

/// ` (the default)` for a value that is not in the file.
pub(super) fn default_mark<T>(value: &At<T>) -> &'static str {
    if value.line == 0 { " (the default)" } else { "" }
}

/// Names are used in labels, paths of the admin API and file names.
pub(super) const NAME_SHAPE: &str = "write letters, digits, `-`, `_` and `.`, at most 63, the first a letter or digit";

/// Whether `name` is valid.
pub(super) fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=63).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fine)
}
