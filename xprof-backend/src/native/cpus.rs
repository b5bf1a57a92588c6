//! CPU lists of sysfs (`0-3,8`), and which CPUs are online.

use std::path::Path;

use crate::sys::file::read_small;
use crate::{Error, Result};

const ONLINE: &str = "/sys/devices/system/cpu/online";
/// No kernel is built for more (`CONFIG_NR_CPUS` ends at 8192 on every architecture).
const MOST: u32 = 65_536;

/// The CPUs of a list such as `0-3,8`; `None` when it is none.
pub(crate) fn parse(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// The CPUs that are online now.
pub(crate) fn online() -> Result<Vec<u32>> {
    let text = read_small(Path::new(ONLINE), 64 << 10).map_err(|e| Error::os(format!("read {ONLINE}"), e))?;
    parse(&String::from_utf8_lossy(&text))
        .filter(|cpus| !cpus.is_empty())
        .ok_or_else(|| Error::Other(format!("{ONLINE} is not a list of CPUs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sysfs() {
        assert_eq!(parse("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse("5"), Some(vec![5]));
        assert_eq!(parse("\n"), Some(vec![]));
        assert_eq!(parse("3-1"), None);
        assert_eq!(parse("0-4294967295"), None);
        assert_eq!(parse("all"), None);
    }
}
