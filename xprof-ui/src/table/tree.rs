//! Call trees below the rows of a table, as perf draws them, and in JSON and CSV.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};
use xprof_profile::profile::{Chain, FunctionId, FunctionName, Key, Node, Order, Profile, Row, Value};

use super::percent;
use crate::plain::Plain;

/// Name of all that the limit leaves out.
const REST: &str = "[...]";
/// Left of a tree.
const MARGIN: &str = "            ";

/// Draws what is below a row.
pub(super) fn text(profile: &Profile, row: &Row, whole: u64, out: &mut String) {
    let Some(trees) = profile.trees else { return };
    let draw = Draw { profile, whole };
    match trees.order {
        Order::Flat => row.chains.iter().for_each(|chain| draw.chain(chain, out)),
        _ if row.nodes.is_empty() => return,
        order => {
            let mut prefix = String::from(MARGIN);
            // The row's function stands at the top of its tree, but where the tree leads to it.
            let leads_to_it = order == Order::Caller && !profile.has_children;
            let at = profile.keys.iter().position(|&key| key == Key::Symbol).filter(|_| !leads_to_it);
            let top = at.and_then(|at| row.values.get(at)).map(shown);
            let weight = if profile.has_children { row.children } else { row.period };
            match (top, &row.nodes[..]) {
                (Some(top), nodes) => {
                    let _ = write!(out, "{prefix}|\n{prefix}---{top}\n");
                    prefix.push_str("   ");
                    draw.below(nodes, weight, &mut prefix, out);
                }
                (None, [one]) if one.period == weight => {
                    let _ = write!(out, "{prefix}|\n{prefix}---{}\n", draw.name(one));
                    prefix.push_str("   ");
                    draw.below(&one.nodes, one.period, &mut prefix, out);
                }
                (None, nodes) => draw.below(nodes, weight, &mut prefix, out),
            }
        }
    }
    out.push('\n');
}

struct Draw<'a> {
    profile: &'a Profile,
    whole: u64,
}

impl Draw<'_> {
    fn function(&self, function: FunctionId) -> Option<&FunctionName> {
        self.profile.functions.get(function.0 as usize)
    }

    fn name(&self, node: &Node) -> String {
        node.function.and_then(|f| self.function(f)).map_or_else(|| REST.into(), label)
    }

    /// Nodes below one of this period. A single one of the same period stands below it without a branch.
    fn below(&self, mut nodes: &[Node], mut period: u64, prefix: &mut String, out: &mut String) {
        while let [one] = nodes
            && one.period == period
        {
            let _ = writeln!(out, "{prefix}{}", self.name(one));
            (nodes, period) = (&one.nodes, one.period);
        }
        let last = nodes.len().saturating_sub(1);
        for (i, node) in nodes.iter().enumerate() {
            let bar = if i == last { ' ' } else { '|' };
            let share = format!("--{:.2}%--", percent(node.period, self.whole));
            let _ = write!(out, "{prefix}|\n{prefix}{bar}{share}{}\n", self.name(node));
            let before = prefix.len();
            prefix.push(bar);
            prefix.extend(std::iter::repeat_n(' ', share.len()));
            self.below(&node.nodes, node.period, prefix, out);
            prefix.truncate(before);
        }
    }

    fn chain(&self, chain: &Chain, out: &mut String) {
        let _ = writeln!(out, "{MARGIN}{:.2}%", percent(chain.period, self.whole));
        if chain.functions.is_empty() {
            let _ = writeln!(out, "{MARGIN}     {REST}");
        }
        for function in chain.functions.iter().filter_map(|&f| self.function(f)) {
            let _ = writeln!(out, "{MARGIN}     {}", label(function));
        }
    }
}

fn label(function: &FunctionName) -> String {
    let mut name = shown(&function.symbol);
    if function.inlined {
        name.push_str(" (inlined)");
    }
    name
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(name) => Plain(name).to_string(),
        other => other.to_string(),
    }
}

/// Adds `callees`, `callers` or `chains` to a row.
///
/// A node has `symbol`, `dso` (`"inlined": true` where the function was compiled into its caller), `samples` and `period` (of all stacks that pass it), `self` (percent of what ends in it),
/// `children` (percent of what passes it), and the nodes below it under the same key as the row. A chain has
/// `period`, `children` and `frames`, leaf first.
pub(super) fn json(profile: &Profile, row: &Row, whole: u64, object: &mut Map<String, Json>) {
    let Some(trees) = profile.trees else { return };
    let draw = Draw { profile, whole };
    let (key, list) = match trees.order {
        Order::Caller => ("callees", draw.nodes("callees", &row.nodes)),
        Order::Callee => ("callers", draw.nodes("callers", &row.nodes)),
        Order::Flat => ("chains", row.chains.iter().map(|chain| draw.json_chain(chain)).collect()),
    };
    object.insert(key.into(), list);
}

impl Draw<'_> {
    fn named(&self, function: Option<FunctionId>) -> Map<String, Json> {
        let mut object = Map::new();
        match function.and_then(|f| self.function(f)) {
            Some(name) => {
                let symbol = match &name.symbol {
                    Value::Text(text) => Json::from(&**text),
                    other => other.to_string().into(),
                };
                object.insert("symbol".into(), symbol);
                object.insert("dso".into(), Json::from(&*name.dso));
                if name.inlined {
                    object.insert("inlined".into(), true.into());
                }
            }
            None => {
                object.insert("symbol".into(), REST.into());
                object.insert("dso".into(), Json::Null);
            }
        }
        object
    }

    fn nodes(&self, key: &str, nodes: &[Node]) -> Json {
        let one = |node: &Node| {
            let mut object = self.named(node.function);
            object.insert("samples".into(), node.samples.into());
            object.insert("period".into(), node.period.into());
            object.insert("self".into(), percent(node.own, self.whole).into());
            object.insert("children".into(), percent(node.period, self.whole).into());
            object.insert(key.into(), self.nodes(key, &node.nodes));
            Json::Object(object)
        };
        nodes.iter().map(one).collect()
    }

    fn json_chain(&self, chain: &Chain) -> Json {
        let mut object = Map::new();
        object.insert("period".into(), chain.period.into());
        object.insert("children".into(), percent(chain.period, self.whole).into());
        let frames = chain.functions.iter().map(|&f| Json::Object(self.named(Some(f))));
        object.insert("frames".into(), frames.collect());
        Json::Object(object)
    }
}

/// The nodes below a row as lines of CSV: (names from the row's own tree down, joined by `;`, samples, period, self,
/// children).
pub(super) fn csv(profile: &Profile, row: &Row, mut line: impl FnMut(&str, u64, u64, u64)) {
    let draw = Draw { profile, whole: 0 };
    fn walk(draw: &Draw<'_>, nodes: &[Node], way: &mut String, line: &mut impl FnMut(&str, u64, u64, u64)) {
        for node in nodes {
            let before = way.len();
            if before > 0 {
                way.push(';');
            }
            way.push_str(&draw.name(node));
            line(way, node.samples, node.period, node.own);
            walk(draw, &node.nodes, way, line);
            way.truncate(before);
        }
    }
    walk(&draw, &row.nodes, &mut String::new(), &mut line);
    for chain in &row.chains {
        let names: Vec<_> = chain.functions.iter().filter_map(|&f| Some(label(draw.function(f)?))).collect();
        line(if names.is_empty() { REST.into() } else { names.join(";") }.as_str(), 0, chain.period, chain.period);
    }
}
