//! "Did you mean": the known names nearest to one that is not known.

/// Names within reach of `wrong`, nearest first, at most three, as the end of a sentence; empty when there is none.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let reach = (wrong.len() / 3).clamp(1, 4);
    let mut near: Vec<(usize, &str)> = Vec::new();
    for name in known {
        if name.len().abs_diff(wrong.len()) > reach {
            continue;
        }
        let far = distance(wrong.as_bytes(), name.as_bytes());
        if far <= reach && !near.iter().any(|(_, n)| *n == name) {
            near.push((far, name));
        }
    }
    near.sort();
    let best = near.first().map_or(0, |n| n.0);
    let list: Vec<&str> = near.iter().take_while(|n| n.0 <= best + 1).take(3).map(|n| n.1).collect();
    match list.as_slice() {
        [] => String::new(),
        list => format!("; did you mean {}?", list.join(" or ")),
    }
}

/// Edits (insert, delete, replace, swap neighbours) from `a` to `b`, letters compared without case.
/// Quadratic: names longer than 128 bytes count as far away.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 128 || b.len() > 128 {
        return usize::MAX;
    }
    let width = b.len() + 1;
    let mut rows = vec![0usize; width * (a.len() + 1)];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = |i: usize, j: usize| rows[i * width + j];
            let cost = if i == 0 || j == 0 {
                i + j
            } else {
                let same = a[i - 1].eq_ignore_ascii_case(&b[j - 1]);
                let mut best = (at(i - 1, j) + 1).min(at(i, j - 1) + 1).min(at(i - 1, j - 1) + usize::from(!same));
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(at(i - 2, j - 2) + 1);
                }
                best
            };
            rows[i * width + j] = cost;
        }
    }
    rows[width * (a.len() + 1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_first() {
        assert_eq!(did_you_mean("cylces", ["cycles", "instructions"]), "; did you mean cycles?");
        assert_eq!(did_you_mean("fault", ["faults", "page-faults"]), "; did you mean faults?");
        assert_eq!(did_you_mean("zzzzzz", ["cycles"]), "");
    }
}
