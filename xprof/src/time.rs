//! `--time`: which part of a recording is shown.

use anyhow::{Context, bail};
use xprof_profile::profile::TimeRange;

/// Parses perf's forms: `A,B` in seconds (either may be empty), `A%-B%` and `P%/N` (the N-th part of P percent) of the
/// recording, several of the latter separated by commas. `span`: first and last sample, ns, where the recording says so.
pub(crate) fn parse(text: &str, span: Option<(u64, u64)>) -> anyhow::Result<Vec<TimeRange>> {
    if !text.contains('%') {
        let Some((from, to)) = text.split_once(',') else {
            bail!("--time {text}: expected FROM,TO in seconds (either may be empty), or A%-B%");
        };
        let from = if from.trim().is_empty() { 0 } else { seconds(from)? };
        let to = if to.trim().is_empty() { u64::MAX } else { seconds(to)? };
        if from > to {
            bail!("--time {text}: the range ends before it begins");
        }
        return Ok(vec![TimeRange { from, to }]);
    }
    let Some((first, last)) = span.filter(|(first, last)| first <= last) else {
        bail!(
            "--time {text}: the recording does not say when its first and last samples were; give seconds: --time FROM,TO"
        );
    };
    text.split(',').map(|part| percent_range(part.trim(), first, last)).collect()
}

/// Seconds with up to nine decimals, as ns.
fn seconds(text: &str) -> anyhow::Result<u64> {
    let text = text.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        bail!("--time: {text:?} is not a number of seconds");
    }
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let ns: u64 = part.parse()?;
    whole
        .parse::<u64>()
        .ok()
        .and_then(|s| s.checked_mul(1_000_000_000)?.checked_add(ns))
        .with_context(|| format!("--time: {text} seconds are too many"))
}

fn percent_range(text: &str, first: u64, last: u64) -> anyhow::Result<TimeRange> {
    let wrong = || anyhow::anyhow!("--time: {text:?} is neither A%-B% nor P%/N");
    let number = |s: &str| s.trim().strip_suffix('%').and_then(|s| s.trim().parse::<f64>().ok()).ok_or_else(wrong);
    let (from, to) = if let Some((part, n)) = text.split_once('/') {
        let (part, n) = (number(part)?, n.trim().parse::<u32>().ok().filter(|&n| n > 0).ok_or_else(wrong)?);
        (part * f64::from(n - 1), part * f64::from(n))
    } else if let Some((from, to)) = text.split_once('-') {
        (number(from)?, number(to)?)
    } else {
        (0.0, number(text)?)
    };
    if !(0.0..=100.0).contains(&from) || !(0.0..=100.0).contains(&to) || from > to {
        return Err(wrong());
    }
    let at = |percent: f64| first + ((last - first) as f64 * percent / 100.0).round() as u64;
    // As perf: a range that ends before the recording's end does not hold its last instant.
    let end = if to < 100.0 { at(to).saturating_sub(1) } else { last };
    Ok(TimeRange { from: at(from), to: end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> (u64, u64) {
        let ranges = parse(text, Some((1000, 2000))).unwrap();
        assert_eq!(ranges.len(), 1);
        (ranges[0].from, ranges[0].to)
    }

    #[test]
    fn seconds_have_nine_decimals() {
        assert_eq!(one("1.5,2.000000001"), (1_500_000_000, 2_000_000_001));
        assert_eq!(one(",3"), (0, 3_000_000_000));
        assert_eq!(one("3,"), (3_000_000_000, u64::MAX));
    }

    #[test]
    fn percentages_are_of_the_recording() {
        assert_eq!(one("10%-20%"), (1100, 1199));
        assert_eq!(one("10%/2"), (1100, 1199));
        assert_eq!(one("90%-100%"), (1900, 2000));
        assert_eq!(parse("0%-10%,30%-40%", Some((1000, 2000))).unwrap().len(), 2);
    }

    #[test]
    fn wrong_ranges_are_refused() {
        for text in ["", "5", "a,b", "2,1", "99999999999999999999,", "110%", "20%-10%", "10%/0", "-5%-10%"] {
            assert!(parse(text, Some((1000, 2000))).is_err(), "{text}");
        }
        assert!(parse("10%-20%", None).is_err());
    }
}
