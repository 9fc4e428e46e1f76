//! Parses the text into [`raw`](super::raw), and rewords the parser's errors.

use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{DefaultMessageFormatter, Error, Location, MessageFormatter};

use super::error::ShapeError;
use super::raw::Config;

/// Reads the file's text.
///
/// # Errors
/// The first syntax error, or the first value of the wrong type.
pub(super) fn read(text: &str, file: &str) -> Result<Config, ShapeError> {
    // Duplicate fleet names are reported with the semantic errors; structs reject duplicate keys.
    let lenient = parse(text, DuplicateKeyPolicy::PassThrough);
    // What a struct rejects is located at the struct; the parser itself knows the line of the second key.
    let found = lenient.map_err(|error| match parse(text, DuplicateKeyPolicy::Error) {
        Err(exact @ Error::DuplicateMappingKey { .. }) if is_duplicate(&error) => exact,
        _ => error,
    });
    found.map(Option::unwrap_or_default).map_err(|error| shape_error(&error, text, file))
}

fn parse(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Option<Config>, Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { duplicate_keys: duplicate_keys, with_snippet: false })
}

/// serde's derived structs have no error of their own for this.
fn is_duplicate(error: &Error) -> bool {
    matches!(error, Error::Message { msg, .. } if msg.starts_with("duplicate field"))
}

fn shape_error(error: &Error, text: &str, file: &str) -> ShapeError {
    let location = error.location().filter(|l| *l != Location::UNKNOWN);
    let (line, column) = location.map_or((1, 1), |l| (l.line().max(1), l.column().max(1)));
    let line_text = text.lines().nth(line as usize - 1).unwrap_or_default().to_owned();
    let rest: String = line_text.chars().skip(column as usize - 1).collect();
    let width = width(&rest);
    let message = message(error, &rest);
    ShapeError { file: file.to_owned(), line, column, message, text: line_text, width }
}

/// Length of the scalar or token that begins `rest`.
fn width(rest: &str) -> u64 {
    let plain = |c: char| !matches!(c, ',' | ']' | '}' | '#') && !c.is_whitespace();
    let quoted = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    match quoted {
        Some(quote) => rest.chars().skip(1).position(|c| c == quote).map_or(1, |n| n as u64 + 2),
        None => rest.trim_end_matches(':').chars().take_while(|c| plain(*c) && *c != ':').count().max(1) as u64,
    }
}

fn message(error: &Error, rest: &str) -> String {
    match error {
        Error::AliasError { error, .. } => message(error, rest),
        Error::SerdeUnknownField { field, expected, .. } => match nearest(field, expected) {
            Some(near) => format!("unknown key `{field}`; did you mean `{near}`?"),
            None => format!("unknown key `{field}`; known keys: {}", expected.join(", ")),
        },
        Error::SerdeUnknownVariant { variant, expected, .. } => match nearest(variant, expected) {
            Some(near) => format!("unknown value `{variant}`, expected one of {}; did you mean `{near}`?", expected.join(", ")),
            None => format!("unknown value `{variant}`, expected one of {}", expected.join(", ")),
        },
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing; add it"),
        Error::InvalidScalar { ty: "bool" | "boolean", .. } | Error::InvalidBooleanStrict { .. } => {
            "write true or false".to_owned()
        }
        Error::SerdeInvalidType { unexpected, expected, .. } => format!("found {unexpected}; write {expected}"),
        Error::Unexpected { expected: "mapping start", .. } => "write a mapping here, such as { key: value }".to_owned(),
        Error::Unexpected { expected: "sequence start", .. } => "write a list here, such as [ value ]".to_owned(),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key `{key}`; remove one"),
        Error::MultipleDocuments { .. } => {
            "a second document begins here; remove the line `---` above and what follows it".to_owned()
        }
        Error::NullIntoString { .. } => "the value is missing; add one or remove the key".to_owned(),
        _ if rest.starts_with("{port}") || rest.starts_with("{id}") => {
            "braces begin a mapping in YAML; write \"{port}\" or \"{id}\" in quotes".to_owned()
        }
        Error::Unexpected { expected: "string scalar", .. } => "write a single value here, not a list or a mapping".to_owned(),
        _ => DefaultMessageFormatter.format_message(error).into_owned(),
    }
}

/// The name among `known` that is closest to `given`, if any is close.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = |name: &&str| strsim::normalized_damerau_levenshtein(given, name);
    known.iter().copied().max_by(|a, b| close(a).total_cmp(&close(b))).filter(|best| close(best) > 0.55)
}
