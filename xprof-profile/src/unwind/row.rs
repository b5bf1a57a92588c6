//! One row of call frame information: how the registers of a frame's caller are found. It depends on the code alone, not
//! on where that is mapped, so it is made once for a code address of a file and kept.

use std::sync::Arc;

use gimli::{Encoding, EndianSlice, Evaluation, EvaluationResult, Expression, Format, Location, RunTimeEndian, Value};

use super::registers::{Arch, Registers};
use super::stack::{Gap, Stack};

/// Steps that one DWARF expression may take.
const MOST_STEPS: u32 = 1000;

/// How the canonical frame address is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cfa {
    /// Register + offset.
    Offset(u8, i64),
    /// What the stack holds at register + offset, plus another offset: GCC's realigned frames, glibc's signal frame.
    Loaded(u8, i64),
    /// A DWARF expression.
    Expression(Arc<[u8]>),
}

/// How one register of the caller is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// Not at all.
    Undefined,
    /// It is what it is in the frame itself.
    Same,
    /// On the stack, at CFA + offset.
    At(i64),
    /// It is CFA + offset.
    Is(i64),
    /// In another register.
    In(u8),
    /// It is a constant.
    Constant(u64),
    /// On the stack, at the address that an expression gives.
    AtExpression(Arc<[u8]>),
    /// It is what an expression gives.
    IsExpression(Arc<[u8]>),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) cfa: Cfa,
    /// Registers that have a rule. The others keep their value, as those that a callee saves by convention do.
    pub(crate) rules: Box<[(u8, Rule)]>,
    /// The register that the return address is in.
    pub(crate) return_register: u8,
    /// The caller was interrupted, it did not call: its address is of the instruction that goes on.
    pub(crate) signal: bool,
}

/// Why a frame has no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is the outermost one.
    Root,
    /// The stack copy ends before what is needed.
    Gap(Gap),
    /// The CFI asks for what nobody has: an unknown register, an expression that does not end.
    Bad,
}

impl From<Gap> for Stop {
    fn from(gap: Gap) -> Stop {
        Stop::Gap(gap)
    }
}

impl Row {
    /// The caller's registers, the program counter among them.
    pub(crate) fn caller(&self, arch: Arch, own: &Registers, stack: &Stack<'_>) -> Result<Registers, Stop> {
        let cfa = match &self.cfa {
            Cfa::Offset(register, offset) => own.get(*register).ok_or(Stop::Bad)?.wrapping_add_signed(*offset),
            Cfa::Loaded(register, offset) => {
                stack.word(own.get(*register).ok_or(Stop::Bad)?.wrapping_add_signed(*offset))?
            }
            Cfa::Expression(code) => evaluate(code, None, own, stack)?,
        };
        let mut caller = own.clone();
        caller.set(arch.sp(), cfa);
        for (register, rule) in &self.rules {
            let value = match rule {
                Rule::Undefined if *register == self.return_register => return Err(Stop::Root),
                Rule::Undefined => {
                    caller.forget(*register);
                    continue;
                }
                Rule::Same => own.get(*register),
                Rule::At(offset) => match stack.word(cfa.wrapping_add_signed(*offset)) {
                    Ok(word) => Some(word),
                    Err(gap) if *register == self.return_register => return Err(gap.into()),
                    Err(_) => None,
                },
                Rule::Is(offset) => Some(cfa.wrapping_add_signed(*offset)),
                Rule::In(other) => own.get(*other),
                Rule::Constant(value) => Some(*value),
                Rule::AtExpression(code) => {
                    evaluate(code, Some(cfa), own, stack).and_then(|at| stack.word(at).map_err(Stop::from)).ok()
                }
                Rule::IsExpression(code) => evaluate(code, Some(cfa), own, stack).ok(),
            };
            match value {
                Some(value) => caller.set(*register, value),
                None => caller.forget(*register),
            }
        }
        let pc = caller.get(self.return_register).ok_or(Stop::Bad)?;
        caller.set(arch.pc(), arch.code(pc));
        Ok(caller)
    }
}

/// The value of an expression, with the CFA on its stack when it is about a register.
fn evaluate(code: &[u8], cfa: Option<u64>, own: &Registers, stack: &Stack<'_>) -> Result<u64, Stop> {
    let encoding = Encoding { format: Format::Dwarf32, version: 5, address_size: 8 };
    let slice = EndianSlice::new(code, RunTimeEndian::Little);
    let mut evaluation: Evaluation<_> = Expression(slice).evaluation(encoding);
    evaluation.set_max_iterations(MOST_STEPS);
    if let Some(cfa) = cfa {
        evaluation.set_initial_value(cfa);
    }
    let mut state = evaluation.evaluate();
    loop {
        state = match state {
            Ok(EvaluationResult::Complete) => break,
            Ok(EvaluationResult::RequiresRegister { register, .. }) => {
                let value = u8::try_from(register.0).ok().and_then(|n| own.get(n)).ok_or(Stop::Bad)?;
                evaluation.resume_with_register(Value::Generic(value))
            }
            Ok(EvaluationResult::RequiresMemory { address, size: 8, space: None, .. }) => {
                evaluation.resume_with_memory(Value::Generic(stack.word(address)?))
            }
            Ok(EvaluationResult::RequiresMemory { address, size, space: None, .. }) if size < 8 => {
                let low = stack.word(address & !7)? >> (8 * (address & 7));
                // A value across two words is not what compilers write.
                if u64::from(size) + (address & 7) > 8 {
                    return Err(Stop::Bad);
                }
                evaluation.resume_with_memory(Value::Generic(low & ((1 << (8 * size)) - 1)))
            }
            Ok(EvaluationResult::RequiresCallFrameCfa) => match cfa {
                Some(cfa) => evaluation.resume_with_call_frame_cfa(cfa),
                None => return Err(Stop::Bad),
            },
            Ok(_) | Err(_) => return Err(Stop::Bad),
        };
    }
    match evaluation.as_result() {
        [piece] => match piece.location {
            Location::Address { address } => Ok(address),
            Location::Value { value: Value::Generic(value) } => Ok(value),
            _ => Err(Stop::Bad),
        },
        _ => Err(Stop::Bad),
    }
}

/// `breg R, offset; deref` alone.
pub(crate) fn loaded(code: &[u8]) -> Option<Cfa> {
    const DW_OP_BREG0: u8 = 0x70;
    const DW_OP_BREG31: u8 = 0x8f;
    const DW_OP_DEREF: u8 = 0x06;
    let (&op @ DW_OP_BREG0..=DW_OP_BREG31, rest) = code.split_first()? else { return None };
    let mut slice = EndianSlice::new(rest, RunTimeEndian::Little);
    let offset = gimli::Reader::read_sleb128(&mut slice).ok()?;
    (slice.slice() == [DW_OP_DEREF]).then_some(Cfa::Loaded(op - DW_OP_BREG0, offset))
}
