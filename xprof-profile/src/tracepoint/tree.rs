//! The arguments of a print format as a tree, and what their operators do to numbers.

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// The missing left operand of a unary operator.
    Null,
    /// A literal or a name: its text, and the number that it starts with.
    Atom(Box<[u8]>, u64),
    /// `REC->field`, by index.
    Field(usize),
    /// `__print_flags(value, delimiter, {bit, name}..)`.
    Flags(Box<Expr>, Box<[u8]>, Vec<Named>),
    /// `__print_symbolic(value, {value, name}..)`.
    Symbolic(Box<Expr>, Vec<Named>),
    /// `__print_hex(array, length)`; true: with spaces between the bytes.
    Hex(Box<Expr>, Box<Expr>, bool),
    /// `__print_array(array, count, element size)`.
    Array(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `(type)value`.
    Cast(Type, Box<Expr>),
    /// `__get_str(field)`; `None` when there is no such field.
    Str(Option<usize>),
    /// `__get_bitmask(field)`.
    Bitmask(Option<usize>),
    /// `__get_cpumask(field)`.
    Cpumask(Option<usize>),
    /// `__get_dynamic_array(field)`.
    Dynamic(usize),
    /// `__get_dynamic_array_len(field)`.
    DynamicLen(usize),
    /// An operator.
    Op(Box<Binary>),
}

/// One row of `__print_flags` or `__print_symbolic`. Values that are negative or not known are -1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) value: i64,
    pub(super) name: Box<[u8]>,
}

/// What a cast does to a number, and to an element of an array of that type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Type {
    pub(super) mask: u64,
    pub(super) pointee: u64,
}

/// An operator and its operands. `a ? b : c` is `Cond(a, Colon(b, c))`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Binary {
    pub(super) op: Op,
    pub(super) rank: i8,
    pub(super) left: Expr,
    pub(super) right: Expr,
}

/// Operators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
    Not,
    Complement,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Shl,
    Shr,
    Lt,
    Gt,
    Le,
    Ge,
    Eq,
    Ne,
    And,
    Or,
    Xor,
    AndAlso,
    OrElse,
    Cond,
    Colon,
    Index,
}

impl Op {
    pub(super) fn parse(token: &[u8]) -> Option<Op> {
        Some(match token {
            b"!" => Op::Not,
            b"~" => Op::Complement,
            b"+" => Op::Add,
            b"-" => Op::Sub,
            b"*" => Op::Mul,
            b"/" => Op::Div,
            b"%" => Op::Rem,
            b"<<" => Op::Shl,
            b">>" => Op::Shr,
            b"<" => Op::Lt,
            b">" => Op::Gt,
            b"<=" => Op::Le,
            b">=" => Op::Ge,
            b"==" => Op::Eq,
            b"!=" => Op::Ne,
            b"&" => Op::And,
            b"|" => Op::Or,
            b"^" => Op::Xor,
            b"&&" => Op::AndAlso,
            b"||" => Op::OrElse,
            b"?" => Op::Cond,
            b"[" => Op::Index,
            _ => return None,
        })
    }

    /// How loosely it binds; -1 for what is no operator between operands.
    pub(super) fn rank(self) -> i8 {
        match self {
            Op::Not | Op::Complement => 4,
            Op::Mul | Op::Div | Op::Rem => 6,
            Op::Add | Op::Sub => 7,
            Op::Shl | Op::Shr => 8,
            Op::Lt | Op::Gt | Op::Le | Op::Ge => 9,
            Op::Eq | Op::Ne => 10,
            Op::And => 11,
            Op::Xor => 12,
            Op::Or => 13,
            Op::AndAlso => 14,
            Op::OrElse => 15,
            Op::Cond => 16,
            Op::Colon | Op::Index => -1,
        }
    }
}

impl Type {
    /// The type `name`, its words separated by single spaces.
    pub(super) fn new(name: &[u8]) -> Type {
        match name.strip_suffix(b" *") {
            Some(pointee) => Type { mask: u64::MAX, pointee: mask(pointee) },
            None => Type { mask: mask(name), pointee: u64::MAX },
        }
    }
}

/// The bits of a value that a type keeps. Values are not sign-extended, and types not listed keep everything.
fn mask(name: &[u8]) -> u64 {
    match name {
        b"u8" | b"s8" => 0xff,
        b"u16" | b"s16" => 0xffff,
        b"u32" | b"s32" => 0xffff_ffff,
        _ => match name.strip_prefix(b"unsigned ").unwrap_or(name) {
            b"char" => 0xff,
            b"short" => 0xffff,
            b"int" => 0xffff_ffff,
            _ => u64::MAX,
        },
    }
}

/// The number that `text` starts with: decimal, `0x..` or `0..`, as strtoull reads it; 0 when there is none.
pub(super) fn number(text: &[u8]) -> u64 {
    let (digits, base): (&[u8], u32) = match text {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', ..] => (text, 8),
        _ => (text, 10),
    };
    let mut value = 0u64;
    for &c in digits {
        let Some(digit) = char::from(c).to_digit(base) else { break };
        value = value.saturating_mul(u64::from(base)).saturating_add(u64::from(digit));
    }
    value
}

/// The value of a row. Names that kernels leave in place of numbers are known to libtraceevent by this table.
pub(super) fn constant(value: &Expr) -> Option<i64> {
    match value {
        Expr::Atom(text, value) if text.first().is_some_and(u8::is_ascii_digit) => Some(*value as i64),
        Expr::Atom(text, _) => Some(match &text[..] {
            b"HI_SOFTIRQ" | b"HRTIMER_NORESTART" => 0,
            b"TIMER_SOFTIRQ" | b"HRTIMER_RESTART" => 1,
            b"NET_TX_SOFTIRQ" => 2,
            b"NET_RX_SOFTIRQ" => 3,
            b"BLOCK_SOFTIRQ" => 4,
            b"IRQ_POLL_SOFTIRQ" => 5,
            b"TASKLET_SOFTIRQ" => 6,
            b"SCHED_SOFTIRQ" => 7,
            b"HRTIMER_SOFTIRQ" => 8,
            b"RCU_SOFTIRQ" => 9,
            _ => -1,
        }),
        Expr::Cast(_, inner) => constant(inner),
        value => evaluated(value).map(|v| v.max(-1)),
    }
}

/// The value of an expression of literals.
pub(super) fn evaluated(value: &Expr) -> Option<i64> {
    Some(match value {
        Expr::Null => 0,
        Expr::Atom(_, value) => *value as i64,
        Expr::Cast(kind, inner) => (evaluated(inner)? as u64 & kind.mask) as i64,
        Expr::Op(binary) => {
            let (left, right) = (evaluated(&binary.left)?, evaluated(&binary.right)?);
            match binary.op {
                Op::Lt => i64::from(left < right),
                Op::Gt => i64::from(left > right),
                Op::Le => i64::from(left <= right),
                Op::Ge => i64::from(left >= right),
                Op::Shr => left.wrapping_shr(right as u32),
                Op::Cond | Op::Colon | Op::Index => return None,
                op => op.apply(left as u64, right as u64) as i64,
            }
        }
        _ => return None,
    })
}

impl Op {
    /// The operator on unsigned numbers; a division by zero gives 0.
    pub(super) fn apply(self, left: u64, right: u64) -> u64 {
        match self {
            Op::Not => u64::from(right == 0),
            Op::Complement => !right,
            Op::Add => left.wrapping_add(right),
            Op::Sub => left.wrapping_sub(right),
            Op::Mul => left.wrapping_mul(right),
            Op::Div => left.checked_div(right).unwrap_or(0),
            Op::Rem => left.checked_rem(right).unwrap_or(0),
            Op::Shl => left.wrapping_shl(right as u32),
            Op::Shr => left.wrapping_shr(right as u32),
            Op::Lt => u64::from(left < right),
            Op::Gt => u64::from(left > right),
            Op::Le => u64::from(left <= right),
            Op::Ge => u64::from(left >= right),
            Op::Eq => u64::from(left == right),
            Op::Ne => u64::from(left != right),
            Op::And => left & right,
            Op::Or => left | right,
            Op::Xor => left ^ right,
            Op::AndAlso => u64::from(left != 0 && right != 0),
            Op::OrElse => u64::from(left != 0 || right != 0),
            Op::Cond | Op::Colon | Op::Index => 0,
        }
    }
}
