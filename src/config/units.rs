//! Values with units: `250ms`, `100/s`, `64KiB`, `80%`, `none`. Each has one format, which its errors show.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What is written for "no limit" and "not used".
const NONE: &str = "none";

/// An invalid value; the text says what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

/// A value written as one scalar. `Display` writes what `parse` reads.
pub trait Scalar: Sized + fmt::Display {
    /// Description of the format, for errors: "a duration: …".
    const SHAPE: &'static str;
    /// Regular expression for its JSON Schema.
    const PATTERN: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// [`UnitError`], with the text and the shape expected.
    fn parse(text: &str) -> Result<Self, UnitError>;
}

fn wrong<T: Scalar>(text: &str) -> UnitError {
    UnitError(format!("`{text}` is not {}", T::SHAPE))
}

fn unitless(text: &str, remedy: &str) -> UnitError {
    UnitError(format!("`{text}` needs a unit: write {remedy}"))
}

/// `text` as a whole number followed by a unit; both may be empty.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Digits with at most one point between them; no sign, no exponent.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit());
    (plain && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then(|| text.parse().ok())?.filter(|n: &f64| n.is_finite())
}

/// A duration, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// Units of a [`Period`] in ms, largest first.
const PERIODS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Scalar for Period {
    const SHAPE: &'static str = "a duration: a whole number and ms, s, m or h, such as 10s";
    const PATTERN: &'static str = "^[0-9]+(ms|s|m|h)$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text);
        if unit.is_empty() && !number.is_empty() {
            return Err(unitless(text, &format!("{text}ms, {text}s, {text}m or {text}h")));
        }
        let ms = PERIODS.iter().find(|(name, _)| *name == unit).and_then(|(_, ms)| number.parse::<u64>().ok()?.checked_mul(*ms));
        ms.map(|ms| Period(Duration::from_millis(ms))).ok_or_else(|| wrong::<Self>(text))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let (unit, each) =
            PERIODS.into_iter().find(|(_, each)| ms > 0 && ms.is_multiple_of((*each).into())).unwrap_or(("s", 1000));
        write!(f, "{}{unit}", ms / u128::from(each))
    }
}

/// So many a second; above zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

impl Scalar for Rate {
    const SHAPE: &'static str = "a rate above zero: a number per second, such as 100/s";
    const PATTERN: &'static str = r"^[0-9]+(\.[0-9]+)?/s$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        if decimal(text).is_some() {
            return Err(unitless(text, &format!("{text}/s")));
        }
        text.strip_suffix("/s").and_then(decimal).filter(|rate| *rate > 0.0).map(Rate).ok_or_else(|| wrong::<Self>(text))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units of a [`Size`] in bytes, largest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Scalar for Size {
    const SHAPE: &'static str = "a size: a whole number and B, KiB, MiB or GiB, such as 64KiB";
    const PATTERN: &'static str = "^[0-9]+(B|KiB|MiB|GiB)$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split(text);
        if unit.is_empty() && !number.is_empty() {
            // A large number without a unit is probably in bytes.
            let bytes = number.parse().ok().filter(|n| *n >= 1 << 10).map(|n| Size(n).to_string());
            return Err(unitless(text, &bytes.unwrap_or_else(|| format!("{text}B, {text}KiB, {text}MiB or {text}GiB"))));
        }
        let bytes =
            SIZES.iter().find(|(name, _)| *name == unit).and_then(|(_, each)| number.parse::<u64>().ok()?.checked_mul(*each));
        bytes.map(Size).ok_or_else(|| wrong::<Self>(text))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, each) = SIZES.into_iter().find(|(_, each)| self.0 > 0 && self.0.is_multiple_of(*each)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / each)
    }
}

/// A share of something, kept as it is written.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share {
    percent: f64,
}

impl Share {
    /// `percent` of a hundred.
    pub const fn percent(percent: f64) -> Self {
        Share { percent }
    }

    /// 1.0 is the whole.
    pub fn ratio(self) -> f64 {
        self.percent / 100.0
    }
}

impl Scalar for Share {
    const SHAPE: &'static str = "a share in percent, such as 80%";
    const PATTERN: &'static str = r"^[0-9]+(\.[0-9]+)?%$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        if let Some(number) = decimal(text) {
            // 0.8 and 80 probably both mean 80 %.
            let percent = if number <= 1.0 { number * 100.0 } else { number };
            return Err(unitless(text, &format!("{percent}%")));
        }
        text.strip_suffix('%').and_then(decimal).map(Share::percent).ok_or_else(|| wrong::<Self>(text))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

/// A number of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl Scalar for Count {
    const SHAPE: &'static str = "a whole number, such as 100";
    const PATTERN: &'static str = "^[0-9]+$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // u32::MAX stands for "no limit" in the seats.
        digits.then(|| text.parse().ok()).flatten().filter(|n| *n < u32::MAX).map(Count).ok_or_else(|| wrong::<Self>(text))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of backends, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// This share.
    Share(Share),
}

impl Scalar for Amount {
    const SHAPE: &'static str = "a number of backends or a share of them, such as 2 or 10%";
    const PATTERN: &'static str = r"^[0-9]+(\.[0-9]+)?%?$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        let count = Count::parse(text).map(|Count(n)| Amount::Count(n));
        count.or_else(|_| if text.ends_with('%') { Share::parse(text).map(Amount::Share) } else { Err(wrong::<Self>(text)) })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(n) => n.fmt(f),
            Amount::Share(share) => share.fmt(f),
        }
    }
}

/// First and last port, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first; not zero.
    pub first: u16,
    /// The last; not below the first.
    pub last: u16,
}

impl Scalar for PortRange {
    const SHAPE: &'static str = "a range of ports, the lower one first, such as 20000-20999";
    const PATTERN: &'static str = "^[0-9]+-[0-9]+$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        let port = |digits: &str| u16::from_str(digits).ok().filter(|p| *p > 0);
        let ends = text.split_once('-').and_then(|(first, last)| Some((port(first)?, port(last)?)));
        ends.filter(|(first, last)| first <= last)
            .map(|(first, last)| PortRange { first, last })
            .ok_or_else(|| wrong::<Self>(text))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A value, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T: Scalar> OrNone<T> {
    /// Reads it.
    ///
    /// # Errors
    /// [`UnitError`] of the value, which names `none` too.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        if text == NONE {
            return Ok(OrNone(None));
        }
        T::parse(text).map(|value| OrNone(Some(value))).map_err(|UnitError(text)| UnitError(format!("{text}, or none")))
    }
}

impl<T: fmt::Display> fmt::Display for OrNone<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(NONE),
        }
    }
}

/// Data-plane threads: a number, or `auto` for one a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(pub Option<u32>);

impl Scalar for Threads {
    const SHAPE: &'static str = "auto or a number of threads, such as 4";
    const PATTERN: &'static str = "^(auto|[0-9]+)$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        if text == "auto" {
            return Ok(Threads(None));
        }
        Count::parse(text).map(|Count(n)| Threads(Some(n))).map_err(|_| wrong::<Self>(text))
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(n) => n.fmt(f),
            None => f.write_str("auto"),
        }
    }
}

/// What opens a session on a route, besides a WebSocket handshake and a request that asks for an event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    Auto,
    /// GET and POST: their answers are event streams.
    Streams,
    /// GET and POST: a client asks again and again.
    Polls,
}

impl Scalar for Sessions {
    const SHAPE: &'static str = "auto (or false), streams, or polls (or true)";
    const PATTERN: &'static str = "^(auto|streams|polls)$";

    fn parse(text: &str) -> Result<Self, UnitError> {
        match text {
            "auto" | "false" => Ok(Sessions::Auto),
            "streams" => Ok(Sessions::Streams),
            "polls" | "true" => Ok(Sessions::Polls),
            _ => Err(wrong::<Self>(text)),
        }
    }
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sessions::Auto => "auto",
            Sessions::Streams => "streams",
            Sessions::Polls => "polls",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip<T: Scalar + PartialEq + fmt::Debug>(value: T) -> Result<(), TestCaseError> {
        let text = value.to_string();
        prop_assert_eq!(T::parse(&text), Ok(value), "{}", text);
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in 0u64.., n in 0u32..u32::MAX, x in 0.001f64..1e9, a in 1u16.., b in 1u16..) {
            round_trip(Period(Duration::from_millis(ms)))?;
            round_trip(Rate(x))?;
            round_trip(Size(ms))?;
            round_trip(Share::percent(x))?;
            round_trip(Count(n))?;
            round_trip(Amount::Count(n))?;
            round_trip(Amount::Share(Share::percent(x)))?;
            round_trip(PortRange { first: a.min(b), last: a.max(b) })?;
            round_trip(Threads(Some(n)))?;
            let optional = OrNone(Some(Rate(x)));
            prop_assert_eq!(OrNone::parse(&optional.to_string()), Ok(optional));
        }

        #[test]
        fn no_text_panics(text in ".{0,12}|[0-9]{0,25}(ms|s|m|h|/s|%|KiB|GiB|-)?") {
            let _ = (Period::parse(&text), Rate::parse(&text), Size::parse(&text), Share::parse(&text));
            let _ = (Amount::parse(&text), PortRange::parse(&text), OrNone::<Count>::parse(&text), Threads::parse(&text));
        }
    }

    #[test]
    fn shapes() {
        let period = |text| Period::parse(text).map(|p| p.0.as_millis()).ok();
        assert_eq!(["250ms", "10s", "5m", "1h", "0s"].map(period), [250, 10_000, 300_000, 3_600_000, 0].map(Some));
        assert_eq!(["", "s", "1.5s", "-1s", "10 s", "1m30s", "1d", "99999999999999999h", "+1s", "１s"].map(period), [None; 10]);
        assert_eq!(Size::parse("64KiB"), Ok(Size(65_536)));
        assert_eq!(Share::parse("12.5%").map(Share::ratio), Ok(0.125));
        assert_eq!(["0/s", "1e3/s", ".5/s", "5./s", "1.2.3/s", "nan/s"].map(|t| Rate::parse(t).ok()), [None; 6]);
        assert_eq!(["5-4", "0-4", "1-70000", "4"].map(|t| PortRange::parse(t).ok()), [None; 4]);
        assert_eq!(OrNone::<Count>::parse("none"), Ok(OrNone(None)));
        for (text, meant) in [("auto", Sessions::Auto), ("streams", Sessions::Streams), ("polls", Sessions::Polls)] {
            assert_eq!((Sessions::parse(text), meant.to_string().as_str()), (Ok(meant), text));
        }
        assert_eq!([Sessions::parse("false"), Sessions::parse("true")], [Ok(Sessions::Auto), Ok(Sessions::Polls)]);
        assert_eq!(Sessions::parse("yes").unwrap_err().to_string(), "`yes` is not auto (or false), streams, or polls (or true)");
    }

    #[test]
    fn a_bare_number_is_told_its_unit() {
        let text = |error: UnitError| error.to_string();
        assert_eq!(text(Period::parse("10").unwrap_err()), "`10` needs a unit: write 10ms, 10s, 10m or 10h");
        assert_eq!(text(Rate::parse("100").unwrap_err()), "`100` needs a unit: write 100/s");
        assert_eq!(text(Size::parse("64").unwrap_err()), "`64` needs a unit: write 64B, 64KiB, 64MiB or 64GiB");
        assert_eq!(text(Share::parse("0.8").unwrap_err()), "`0.8` needs a unit: write 80%");
        assert_eq!(text(OrNone::<Rate>::parse("5").unwrap_err()), "`5` needs a unit: write 5/s, or none");
    }
}
