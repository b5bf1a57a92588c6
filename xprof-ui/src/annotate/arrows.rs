//! Arrows beside the code: where its jumps lead.
//!
//! Every jump takes a lane, the shorter ones the lanes nearer to the code. What needs more lanes than there are is not
//! drawn (the target still stands in the text).

/// Lanes, one column each.
const LANES: usize = 6;
/// Jumps that are looked at, the shortest first: generated functions have tens of thousands.
const MOST_JUMPS: usize = 4096;

/// What one column of a line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stroke {
    #[default]
    Empty,
    /// Passes by, up and down.
    Down,
    /// Turns to the code, coming from below.
    FromBelow,
    /// Turns to the code, coming from above.
    FromAbove,
    /// On its way from a lane further out.
    Across,
}

impl Stroke {
    fn char(self, unicode: bool) -> char {
        match (self, unicode) {
            (Stroke::Empty, _) => ' ',
            (Stroke::Down, true) => '│',
            (Stroke::Down, false) => '|',
            (Stroke::FromBelow, true) => '┌',
            (Stroke::FromAbove, true) => '└',
            (Stroke::FromBelow | Stroke::FromAbove, false) => '+',
            (Stroke::Across, true) => '─',
            (Stroke::Across, false) => '-',
        }
    }
}

/// The margin of every line: as many columns as lanes are used, and one for the head. `jumps`: (from, to), indices of
/// lines below `lines`.
pub(super) fn margins(lines: usize, jumps: &[(usize, usize)], unicode: bool) -> Vec<String> {
    let mut jumps: Vec<(usize, usize)> = jumps.iter().copied().filter(|(from, to)| from != to).collect();
    jumps.sort_by_key(|&(from, to)| (from.abs_diff(to), from));
    jumps.truncate(MOST_JUMPS);
    // Per lane the spans that are taken, per line the lane that turns there and whether it arrives.
    let mut lanes: Vec<Vec<(usize, usize)>> = vec![Vec::new(); LANES];
    let mut grid = vec![[Stroke::Empty; LANES]; lines];
    let mut heads = vec![None; lines];
    for (from, to) in jumps {
        let (top, bottom) = (from.min(to), from.max(to));
        if bottom >= lines {
            continue;
        }
        let is_free = |lane: &Vec<(usize, usize)>| lane.iter().all(|&(first, last)| bottom < first || last < top);
        let Some(lane) = lanes.iter().position(is_free) else { continue };
        // A line has one way to the code: a second arrow may share it only by arriving too.
        let shares = |line: usize, arrives: bool| heads[line].is_none_or(|(_, taken)| arrives && taken);
        if !shares(from, false) || !shares(to, true) {
            continue;
        }
        lanes[lane].push((top, bottom));
        for row in &mut grid[top + 1..bottom] {
            row[lane] = Stroke::Down;
        }
        for (line, arrives) in [(from, false), (to, true)] {
            grid[line][lane] = if line == top { Stroke::FromBelow } else { Stroke::FromAbove };
            let outer = heads[line].map_or(lane, |(other, _): (usize, bool)| other.max(lane));
            heads[line] = Some((outer, arrives));
        }
    }
    let used = lanes.iter().rposition(|lane| !lane.is_empty()).map_or(0, |last| last + 1);
    let margin = |(row, head): (&[Stroke; LANES], &Option<(usize, bool)>)| {
        let column = |lane: usize| {
            let crossed = head.is_some_and(|(outer, _)| lane < outer);
            match row[lane] {
                Stroke::Empty | Stroke::Down if crossed => Stroke::Across,
                stroke => stroke,
            }
        };
        let mut text: String = (0..used).rev().map(|lane| column(lane).char(unicode)).collect();
        text.push(match head {
            Some((_, true)) => '>',
            Some((_, false)) => Stroke::Across.char(unicode),
            None => ' ',
        });
        text
    };
    grid.iter().zip(&heads).map(margin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_jumps_take_lanes_from_the_code_outwards() {
        let drawn = margins(6, &[(4, 1), (2, 3), (0, 5)], true);
        assert_eq!(drawn, ["┌───", "│┌─>", "││┌─", "││└>", "│└──", "└──>"]);
        let drawn = margins(3, &[(2, 0)], false);
        assert_eq!(drawn, ["+>", "| ", "+-"]);
    }

    #[test]
    fn arrows_may_meet_at_their_head() {
        assert_eq!(margins(4, &[(0, 3), (1, 3)], true), ["┌──", "│┌─", "││ ", "└└>"]);
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert_eq!(margins(2, &[(0, 7), (1, 1)], true), [" ", " "]);
        let crowded: Vec<(usize, usize)> = (0..20).map(|i| (i, 39 - i)).collect();
        assert!(margins(40, &crowded, true).iter().all(|m| m.chars().count() == LANES + 1));
        assert!(margins(0, &[(0, 1)], true).is_empty());
    }
}
