//! Errors of a configuration: the line, the value, what to do.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {source}; {}", path.display(), read_remedy(source))]
    Read { path: PathBuf, source: std::io::Error },
    /// It is not YAML, or a value has not the shape of its key. Only the first is reported, since the rest cannot be parsed.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// It can be parsed but is invalid. All problems are reported.
    #[error(transparent)]
    Meaning(#[from] MeaningError),
}

fn read_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::InvalidData => "save it as UTF-8",
        std::io::ErrorKind::FileTooLarge => "check that it is the configuration; the limit is 1 MiB",
        std::io::ErrorKind::InvalidInput => "name a regular file or a link to one",
        std::io::ErrorKind::PermissionDenied => "make it readable for this user",
        _ => "name the configuration with --config FILE",
    }
}

/// Semantic errors that are reported one by one; log and events keep the whole text.
const PROBLEMS_MAX: usize = 50;

/// The longest excerpt of a file in an error, in characters.
const EXCERPT_MAX: usize = 200;

/// The first syntax error of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ShapeError {
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// What is wrong and what to write.
    pub message: String,
    /// The line's text.
    pub text: String,
    /// How many characters are wrong.
    pub width: u64,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShapeError { file, line, column, message, text, width } = self;
        write!(f, "{file}:{line}:{column}: {}", visible(message))?;
        if text.trim().is_empty() {
            return Ok(());
        }
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        // Of a long line, the part around the column.
        let at = column.saturating_sub(1) as usize;
        let skipped = if at < EXCERPT_MAX / 2 { 0 } else { at - EXCERPT_MAX / 4 };
        let excerpt: String = text.chars().skip(skipped).collect();
        let indent = " ".repeat(at - skipped);
        let carets = "^".repeat((*width as usize).clamp(1, EXCERPT_MAX - (at - skipped)));
        write!(f, "\n{gutter} |\n{number} | {}\n{gutter} | {indent}{carets}", visible(&excerpt))
    }
}

/// The beginning of `text`, with every control character replaced by `·`: errors must neither control the terminal nor fill the log, and
/// columns must stay aligned.
fn visible(text: &str) -> String {
    let is_cut = text.chars().nth(EXCERPT_MAX).is_some();
    text.chars()
        .take(EXCERPT_MAX)
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '·'
            } else {
                c
            }
        })
        .chain(is_cut.then_some('…'))
        .collect()
}

/// All semantic errors of a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct MeaningError {
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for MeaningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().take(PROBLEMS_MAX).enumerate() {
            let Problem { line, what, remedy } = problem;
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {}; {remedy}", self.file, visible(what))?;
        }
        match self.problems.len().saturating_sub(PROBLEMS_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

/// One semantic error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: u64,
    /// Key and value, and what is wrong with it.
    pub what: String,
    /// What to do.
    pub remedy: String,
}
