//! The time of day where the user is, for names of files.

use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in the local time zone: year, month, day, hour, minute, second; and microseconds.
pub fn now() -> ([i32; 6], u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (fields, _) = at(now.as_secs());
    (fields, now.subsec_micros())
}

/// A time in seconds since 1970, in the local time zone: year, month, day, hour, minute, second; and the day of the week,
/// 0 for Sunday.
pub fn at(seconds: u64) -> ([i32; 6], i32) {
    let seconds = seconds.try_into().unwrap_or_default();
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid; an all-zero `tm` is a valid value, should the call fail.
    let tm = unsafe {
        libc::localtime_r(&seconds, tm.as_mut_ptr());
        tm.assume_init()
    };
    let year = tm.tm_year.saturating_add(1900);
    ([year, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec], tm.tm_wday)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_is_what_date_says() {
        let date = std::process::Command::new("date").arg("+%Y-%-m-%-d").output().unwrap();
        let ([year, month, day, ..], _) = now();
        assert_eq!(String::from_utf8(date.stdout).unwrap().trim(), format!("{year}-{month}-{day}"));
    }
}
