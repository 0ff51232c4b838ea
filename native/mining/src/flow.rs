//! Follows constants through the code of a module, and tells what each call, wait and built term is given.
//!
//! One pass over the instructions. Registers keep what is known of them along straight code and over forward jumps:
//! where paths meet, only what all of them agree on survives. What a label may be reached with by a jump back, by a
//! call or after an exception is unknown. A call forgets the x registers; so does every instruction that is not
//! known here, as far as it names them. So nothing is taken for a constant that is none; what is a constant only
//! over a loop, an argument or a field of a state stays unknown.

use std::collections::{HashMap, HashSet};

use crate::beam::{Instruction, Module, Operand};
use crate::opcodes as op;
use crate::term::Term;

/// The longest list and the largest map of which the parts are kept.
const PARTS_MAX: usize = 256;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The function.
    pub function: String,
    /// Its arity.
    pub arity: u64,
    /// The line of its source; 0 when unknown.
    pub line: u32,
}

/// Takes what is found.
pub trait Visitor {
    /// A call of a function of another module, or a BIF, with what is known of its arguments.
    fn call(&mut self, place: &Place, import: usize, arguments: &[Term]);
    /// `receive … after Time`.
    fn wait(&mut self, place: &Place, time: &Term);
    /// A literal of the code, where it is used.
    fn literal(&mut self, place: &Place, term: &Term);
    /// A tuple or map that the code builds.
    fn built(&mut self, place: &Place, term: &Term);
}

/// What is known of registers.
#[derive(Debug, Clone, Default, PartialEq)]
struct Registers {
    x: HashMap<u64, Term>,
    y: HashMap<u64, Term>,
}

impl Registers {
    fn meet(&mut self, other: &Registers) {
        let meet = |mine: &mut HashMap<u64, Term>, others: &HashMap<u64, Term>| {
            mine.retain(|register, term| others.get(register) == Some(term));
        };
        meet(&mut self.x, &other.x);
        meet(&mut self.y, &other.y);
    }

    fn set(&mut self, register: &Operand, term: Term) {
        let (bank, index) = match register {
            Operand::X(index) => (&mut self.x, index),
            Operand::Y(index) => (&mut self.y, index),
            _ => return,
        };
        match term {
            Term::Unknown => bank.remove(index),
            known => bank.insert(*index, known),
        };
    }

    /// Forgets every register that an operand names.
    fn forget(&mut self, operand: &Operand) {
        match operand {
            Operand::List(items) => items.iter().for_each(|item| self.forget(item)),
            register => self.set(register, Term::Unknown),
        }
    }
}

/// Goes through the code of a module.
pub fn walk(module: &Module, visitor: &mut dyn Visitor) {
    let mut walk = Walk {
        module,
        visitor,
        opaque: opaque_labels(module),
        jumps: HashMap::new(),
        now: None,
        place: Place::default(),
    };
    for instruction in &module.code {
        walk.step(instruction);
    }
}

/// Labels that may be reached with anything in the registers: by calls, exceptions, and jumps back.
fn opaque_labels(module: &Module) -> HashSet<u64> {
    let mut opaque = HashSet::new();
    let mut seen = HashSet::new();
    for Instruction { opcode, operands } in &module.code {
        match (*opcode, operands.as_slice()) {
            (op::LABEL, [Operand::Number(label)]) => {
                seen.insert(*label);
            }
            (op::CALL | op::CALL_LAST | op::CALL_ONLY | op::CATCH | op::TRY, operands) => {
                each_label(operands, &mut |label| {
                    opaque.insert(label);
                });
            }
            (_, operands) => each_label(operands, &mut |label| {
                if seen.contains(&label) {
                    opaque.insert(label);
                }
            }),
        }
    }
    opaque
}

fn each_label(operands: &[Operand], found: &mut dyn FnMut(u64)) {
    for operand in operands {
        match operand {
            // 0 means that there is none.
            Operand::Label(label) if *label != 0 => found(*label),
            Operand::List(items) => each_label(items, found),
            _ => {}
        }
    }
}

/// `timer:seconds(3)` and its like, which people write for constants.
fn in_ms(unit: &str, number: i64) -> Term {
    let factor = match unit {
        "seconds" => 1_000,
        "minutes" => 60_000,
        "hours" => 3_600_000,
        _ => return Term::Unknown,
    };
    number.checked_mul(factor).map_or(Term::Unknown, Term::Int)
}

struct Walk<'a> {
    module: &'a Module,
    visitor: &'a mut dyn Visitor,
    opaque: HashSet<u64>,
    /// What is known when a label is reached by the jumps so far.
    jumps: HashMap<u64, Registers>,
    /// What is known here; `None` where nothing arrives.
    now: Option<Registers>,
    place: Place,
}

impl Walk<'_> {
    fn read(&self, operand: &Operand) -> Term {
        let Some(now) = &self.now else { return Term::Unknown };
        match operand {
            Operand::Int(number) => Term::Int(*number),
            Operand::Atom(0) => Term::List(Vec::new().into()),
            Operand::Atom(number) => self.module.atom(*number).map_or(Term::Unknown, Term::atom),
            Operand::X(index) => now.x.get(index).cloned().unwrap_or_default(),
            Operand::Y(index) => now.y.get(index).cloned().unwrap_or_default(),
            Operand::Literal(index) => {
                let literal =
                    usize::try_from(*index).ok().and_then(|i| self.module.literals.get(i));
                literal.cloned().unwrap_or_default()
            }
            _ => Term::Unknown,
        }
    }

    fn set(&mut self, register: &Operand, term: Term) {
        if let Some(now) = &mut self.now {
            now.set(register, term);
        }
    }

    /// The state here goes to every label that the operands name.
    fn branch(&mut self, operands: &[Operand]) {
        let Some(now) = &self.now else { return };
        let (jumps, opaque) = (&mut self.jumps, &self.opaque);
        each_label(operands, &mut |label| {
            if !opaque.contains(&label) {
                jumps
                    .entry(label)
                    .and_modify(|known| known.meet(now))
                    .or_insert_with(|| now.clone());
            }
        });
    }

    fn label(&mut self, label: u64) {
        let jumped = self.jumps.remove(&label);
        if self.opaque.contains(&label) {
            self.now = Some(Registers::default());
            return;
        }
        self.now = match (self.now.take(), jumped) {
            (Some(mut here), Some(jumped)) => {
                here.meet(&jumped);
                Some(here)
            }
            // A function that nothing in its module calls: exported, or made a fun of.
            (None, None) => Some(Registers::default()),
            (here, jumped) => here.or(jumped),
        };
    }

    fn step(&mut self, Instruction { opcode, operands }: &Instruction) {
        self.literals(operands);
        match (*opcode, operands.as_slice()) {
            (op::LABEL, [Operand::Number(label)]) => self.label(*label),
            (op::FUNC_INFO, [_, function, arity]) => self.function(function, arity),
            (op::LINE | op::EXECUTABLE_LINE, [Operand::Number(location), ..])
            | (op::DEBUG_LINE, [_, Operand::Number(location), ..]) => {
                let line = usize::try_from(*location).ok().and_then(|i| self.module.lines.get(i));
                self.place.line = line.copied().unwrap_or(0);
            }
            (op::CALL_EXT, [_, Operand::Number(import)]) => {
                let result = self.call_ext(*import);
                self.called();
                self.set(&Operand::X(0), result);
            }
            (op::CALL_EXT_LAST | op::CALL_EXT_ONLY, [_, Operand::Number(import), ..]) => {
                let _ = self.call_ext(*import);
                self.now = None;
            }
            (op::CALL | op::CALL_FUN | op::APPLY | op::CALL_FUN2, _) => self.called(),
            (op::SEND | op::REMOVE_MESSAGE | op::TRY_CASE, _) => self.called(),
            (op::WAIT_TIMEOUT, [_, time]) => {
                let time = self.read(time);
                self.visitor.wait(&self.place, &time);
            }
            (op::TIMEOUT, _) => {}
            (
                op::CALL_LAST
                | op::CALL_ONLY
                | op::RETURN
                | op::BADMATCH
                | op::IF_END
                | op::CASE_END
                | op::RAISE
                | op::RAW_RAISE
                | op::TRY_CASE_END
                | op::APPLY_LAST
                | op::BADRECORD
                | op::INT_CODE_END,
                _,
            ) => self.now = None,
            (
                op::JUMP | op::SELECT_VAL | op::SELECT_TUPLE_ARITY | op::LOOP_REC_END | op::WAIT,
                all,
            ) => {
                self.branch(all);
                self.now = None;
            }
            // They only read, and go on or to their label.
            (
                op::IS_LT..=op::TEST_ARITY
                | op::IS_FUNCTION
                | op::IS_BOOLEAN
                | op::IS_FUNCTION2
                | op::IS_BITSTR
                | op::IS_MAP
                | op::HAS_MAP_FIELDS
                | op::IS_TAGGED_TUPLE,
                all,
            ) => self.branch(all),
            (op::ALLOCATE..=op::ALLOCATE_HEAP_ZERO | op::DEALLOCATE, _) => {
                if let Some(now) = &mut self.now {
                    now.y.clear();
                }
            }
            (op::TEST_HEAP, _) => {}
            (op::TRIM, [Operand::Number(count), _]) => self.trim(*count),
            (_, all) => self.build(*opcode, all),
        }
    }

    /// Instructions that make a term of others.
    fn build(&mut self, opcode: u8, operands: &[Operand]) {
        match (opcode, operands) {
            (op::MOVE, [source, destination]) => {
                let term = self.read(source);
                self.set(destination, term);
            }
            (op::SWAP, [one, other]) => {
                let (first, second) = (self.read(one), self.read(other));
                self.set(one, second);
                self.set(other, first);
            }
            (op::PUT_LIST, [head, tail, destination]) => {
                let term = match self.read(tail) {
                    Term::List(rest) if rest.len() < PARTS_MAX => {
                        let items = std::iter::once(self.read(head)).chain(rest.iter().cloned());
                        Term::List(items.collect::<Vec<_>>().into())
                    }
                    _ => Term::Unknown,
                };
                self.set(destination, term);
            }
            (op::PUT_TUPLE2, [destination, Operand::List(elements)]) => {
                let elements = elements.iter().map(|element| self.read(element)).collect();
                let term = Term::tuple(elements);
                if self.now.is_some() {
                    self.visitor.built(&self.place, &term);
                }
                self.set(destination, term);
            }
            (
                op::PUT_MAP_ASSOC | op::PUT_MAP_EXACT,
                [fail, source, destination, _, Operand::List(pairs)],
            ) => {
                self.branch(std::slice::from_ref(fail));
                let term = self.put_map(source, pairs);
                if self.now.is_some() {
                    self.visitor.built(&self.place, &term);
                }
                self.set(destination, term);
            }
            (op::GET_TUPLE_ELEMENT, [source, Operand::Number(index), destination]) => {
                let term = match self.read(source) {
                    Term::Tuple(elements) => elements.get(*index as usize).cloned(),
                    _ => None,
                };
                self.set(destination, term.unwrap_or_default());
            }
            (op::GET_HD | op::GET_TL, [_, destination]) => self.set(destination, Term::Unknown),
            (_, all) => {
                if let Some(now) = &mut self.now {
                    all.iter().for_each(|operand| now.forget(operand));
                }
                self.branch(all);
            }
        }
    }

    fn put_map(&self, source: &Operand, updates: &[Operand]) -> Term {
        let (mut pairs, whole) = match self.read(source) {
            Term::Map { pairs, whole } => (pairs.to_vec(), whole),
            _ => (Vec::new(), false),
        };
        for update in updates.chunks_exact(2) {
            let (key, value) = (self.read(&update[0]), self.read(&update[1]));
            pairs.retain(|(known, _)| *known != key);
            pairs.push((key, value));
        }
        pairs.truncate(PARTS_MAX);
        Term::Map { pairs: pairs.into(), whole }
    }

    /// Frames lose their first registers.
    fn trim(&mut self, count: u64) {
        if let Some(now) = &mut self.now {
            let kept =
                now.y.drain().filter_map(|(index, term)| Some((index.checked_sub(count)?, term)));
            now.y = kept.collect();
        }
    }

    /// After a call only what the frame keeps is known.
    fn called(&mut self) {
        if let Some(now) = &mut self.now {
            now.x.clear();
        }
    }

    /// What is known of its result.
    fn call_ext(&mut self, import: u64) -> Term {
        let Ok(index) = usize::try_from(import) else { return Term::Unknown };
        let Some(found) = self.module.imports.get(index) else { return Term::Unknown };
        if self.now.is_none() || found.arity > 255 {
            return Term::Unknown;
        }
        let arguments: Vec<Term> =
            (0..u64::from(found.arity)).map(|i| self.read(&Operand::X(i))).collect();
        self.visitor.call(&self.place, index, &arguments);
        match (found.module.as_str(), found.function.as_str(), arguments.as_slice()) {
            ("timer", unit, [Term::Int(number)]) => in_ms(unit, *number),
            _ => Term::Unknown,
        }
    }

    fn function(&mut self, function: &Operand, arity: &Operand) {
        let Operand::Atom(name) = function else { return };
        let arity = match arity {
            Operand::Number(arity) => *arity,
            _ => 0,
        };
        let function = self.module.atom(*name).unwrap_or("?").to_owned();
        self.place = Place { function, arity, line: self.place.line };
        self.now = None;
    }

    /// Literals are found where they are used.
    fn literals(&mut self, operands: &[Operand]) {
        for operand in operands {
            match operand {
                Operand::Literal(index) => {
                    let literals = &self.module.literals;
                    if let Some(literal) =
                        usize::try_from(*index).ok().and_then(|i| literals.get(i))
                    {
                        self.visitor.literal(&self.place, literal);
                    }
                }
                Operand::List(items) => self.literals(items),
                _ => {}
            }
        }
    }
}
