//! Reads compiled modules: the chunks of a `.beam` file and the instructions in its code.
//!
//! A `.beam` file is an IFF form, `FOR1 <size> BEAM` and chunks of a name, a size and bytes, padded to four.
//! Operands are "compact terms", the tag in the low three bits of the first byte. Nothing here believes a length
//! that the bytes do not bear out: the file may be anything.
//!
//! Format: Erlang/OTP, `beam_asm.erl`, `beam_disasm.erl` and `erts/emulator/beam/beam_file.c`. Releases 20 to 28.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use fuzz_dist_core::etf;

use crate::opcodes;
use crate::term::Term;

/// The most that a file or chunk may unpack to.
const BYTES_MAX: u64 = 256 << 20;

/// Lists of operands do not nest in real code.
const OPERAND_DEPTH_MAX: u32 = 4;

/// Why bytes are no module that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BeamError {
    /// Not a module at all.
    #[error("is no compiled module: it does not begin with FOR1 and BEAM")]
    NotBeam,
    /// It ends too early, or contradicts itself.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    /// A chunk that every module has.
    #[error("has no chunk {0}")]
    NoChunk(&'static str),
    /// Compiled by a later release.
    #[error(
        "has the opcode {0}, which this release of fuzz_dist does not know (it reads OTP 20 to 28)"
    )]
    Opcode(u8),
}

/// An operand of an instruction.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A number that is part of the instruction: an arity, an index.
    Number(u64),
    /// An integer of the program.
    Int(i64),
    /// An atom, by its number from 1; 0 is the empty list.
    Atom(u64),
    /// An x register.
    X(u64),
    /// A y register.
    Y(u64),
    /// A label.
    Label(u64),
    /// A list of operands.
    List(Vec<Operand>),
    /// A literal, by its number.
    Literal(u64),
    /// A float register, an allocation, an integer that does not fit.
    Other,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// Its number in `genop.tab`.
    pub opcode: u8,
    /// Its operands.
    pub operands: Vec<Operand>,
}

/// A function of another module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The module.
    pub module: String,
    /// Its function.
    pub function: String,
    /// Its arity.
    pub arity: u32,
}

/// A module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Its name.
    pub name: String,
    atoms: Vec<String>,
    /// Functions of others that it calls.
    pub imports: Vec<Import>,
    /// Its literals.
    pub literals: Vec<Term>,
    /// Its code.
    pub code: Vec<Instruction>,
    /// Line of each location, by its number.
    pub lines: Vec<u32>,
}

impl Module {
    /// Reads the bytes of a `.beam` file.
    pub fn read(bytes: &[u8]) -> Result<Module, BeamError> {
        let unpacked;
        let bytes = match bytes {
            [0x1f, 0x8b, ..] => {
                unpacked = unpack(GzDecoder::new(bytes))?;
                &unpacked
            }
            _ => bytes,
        };
        let chunks = chunks(bytes)?;
        let chunk = |name: &'static str| {
            chunks.get(name.as_bytes()).copied().ok_or(BeamError::NoChunk(name))
        };
        let atoms = match chunks.get(&b"AtU8"[..]) {
            Some(bytes) => atoms(bytes, true)?,
            None => atoms(chunk("Atom").map_err(|_| BeamError::NoChunk("AtU8"))?, false)?,
        };
        let imports = imports(chunk("ImpT")?, &atoms)?;
        let literals = match chunks.get(&b"LitT"[..]) {
            Some(bytes) => literals(bytes)?,
            None => Vec::new(),
        };
        let code = code(chunk("Code")?)?;
        // Lines are a comfort: code without them is mined all the same.
        let lines = chunks.get(&b"Line"[..]).and_then(|bytes| lines(bytes).ok());
        let name = atoms.first().cloned().ok_or(BeamError::Damaged("it has no name"))?;
        Ok(Module { name, atoms, imports, literals, code, lines: lines.unwrap_or_default() })
    }

    /// The text of an atom.
    pub fn atom(&self, number: u64) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.atoms.get(index).map(String::as_str)
    }
}

fn unpack(reader: impl Read) -> Result<Vec<u8>, BeamError> {
    let mut bytes = Vec::new();
    let read = reader.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    match read {
        Ok(count) if count as u64 <= BYTES_MAX => Ok(bytes),
        Ok(_) => Err(BeamError::Damaged("it unpacks to more than 256 MiB")),
        Err(_) => Err(BeamError::Damaged("its compressed data cannot be unpacked")),
    }
}

fn chunks(bytes: &[u8]) -> Result<HashMap<&[u8], &[u8]>, BeamError> {
    let mut input = Input(bytes);
    if input.take(4) != Ok(b"FOR1") {
        return Err(BeamError::NotBeam);
    }
    input.u32()?;
    if input.take(4) != Ok(b"BEAM") {
        return Err(BeamError::NotBeam);
    }
    let mut chunks = HashMap::new();
    while !input.0.is_empty() {
        let name = input.take(4)?;
        let length = input.u32()? as usize;
        chunks.insert(name, input.take(length)?);
        let padding = (4 - length % 4) % 4;
        input.0 = &input.0[padding.min(input.0.len())..];
    }
    Ok(chunks)
}

/// What has not been read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BeamError> {
        if count > self.0.len() {
            return Err(BeamError::Damaged("it ends in the middle of a chunk"));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, BeamError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Result<u32, BeamError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Tag and value of a compact term; `None` for an integer that does not fit.
    fn compact(&mut self) -> Result<(u8, Option<i64>), BeamError> {
        let first = self.u8()?;
        let value = match first {
            _ if first & 0x08 == 0 => Some(i64::from(first >> 4)),
            _ if first & 0x10 == 0 => {
                let low = self.u8()?;
                Some(i64::from(first >> 5) << 8 | i64::from(low))
            }
            _ => {
                let length = match first >> 5 {
                    // Its length follows, which is never of this form itself.
                    7 if self.0.first().is_some_and(|next| next & 0x18 != 0x18) => {
                        match self.compact()? {
                            (0, Some(more @ 0..=1024)) => more as usize + 9,
                            _ => return Err(BeamError::Damaged("an operand is too long")),
                        }
                    }
                    7 => return Err(BeamError::Damaged("an operand is too long")),
                    short => usize::from(short) + 2,
                };
                let bytes = self.take(length)?;
                let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
                let fold = |value: i64, byte: &u8| value << 8 | i64::from(*byte);
                (length <= 8).then(|| bytes.iter().fold(sign, fold))
            }
        };
        Ok((first & 7, value))
    }

    /// A compact term that is a count or an index.
    fn number(&mut self) -> Result<u64, BeamError> {
        match self.compact()? {
            (0, Some(number @ 0..)) => Ok(number as u64),
            _ => Err(BeamError::Damaged("a number is expected and something else stands there")),
        }
    }

    fn operand(&mut self, depth: u32) -> Result<Operand, BeamError> {
        if self.0.first().is_some_and(|byte| byte & 7 == 7) {
            return self.extended(depth);
        }
        let (tag, value) = self.compact()?;
        let Some(value) = value else { return Ok(Operand::Other) };
        let index = u64::try_from(value).unwrap_or(u64::MAX);
        Ok(match tag {
            0 => Operand::Number(index),
            1 => Operand::Int(value),
            2 => Operand::Atom(index),
            3 => Operand::X(index),
            4 => Operand::Y(index),
            5 => Operand::Label(index),
            _ => Operand::Other,
        })
    }

    fn extended(&mut self, depth: u32) -> Result<Operand, BeamError> {
        if depth == 0 {
            return Err(BeamError::Damaged("operands nest too deep"));
        }
        match self.u8()? >> 4 {
            1 => {
                let count = self.number()?;
                if count > self.0.len() as u64 {
                    return Err(BeamError::Damaged("a list of operands is longer than the code"));
                }
                (0..count)
                    .map(|_| self.operand(depth - 1))
                    .collect::<Result<_, _>>()
                    .map(Operand::List)
            }
            2 => self.number().map(|_| Operand::Other),
            3 => {
                for _ in 0..self.number()?.min(self.0.len() as u64) {
                    self.number()?;
                    self.number()?;
                }
                Ok(Operand::Other)
            }
            4 => self.number().map(Operand::Literal),
            // A register with what the compiler knows of its type.
            5 => {
                let register = self.operand(depth - 1)?;
                self.number()?;
                Ok(register)
            }
            _ => Err(BeamError::Damaged("an operand has an unknown tag")),
        }
    }
}

fn atoms(bytes: &[u8], utf8: bool) -> Result<Vec<String>, BeamError> {
    let mut input = Input(bytes);
    // From OTP 28 on the count is negative, and lengths are compact terms.
    let count = input.u32()? as i32;
    let mut atoms = Vec::new();
    for _ in 0..count.unsigned_abs() {
        let length = match count < 0 {
            true => input.number()? as usize,
            false => usize::from(input.u8()?),
        };
        let text = input.take(length)?;
        atoms.push(match utf8 {
            true => String::from_utf8_lossy(text).into_owned(),
            false => text.iter().map(|byte| char::from(*byte)).collect(),
        });
    }
    Ok(atoms)
}

fn imports(bytes: &[u8], atoms: &[String]) -> Result<Vec<Import>, BeamError> {
    let mut input = Input(bytes);
    let atom = |number: u32| {
        let index = (number as usize).wrapping_sub(1);
        atoms.get(index).cloned().ok_or(BeamError::Damaged("an import names no atom"))
    };
    let count = input.u32()?;
    let mut imports = Vec::new();
    for _ in 0..count {
        let (module, function, arity) = (input.u32()?, input.u32()?, input.u32()?);
        imports.push(Import { module: atom(module)?, function: atom(function)?, arity });
    }
    Ok(imports)
}

fn literals(bytes: &[u8]) -> Result<Vec<Term>, BeamError> {
    let mut input = Input(bytes);
    let unpacked;
    // From OTP 28 on they are not compressed, which a size of 0 says.
    if input.u32()? != 0 {
        unpacked = unpack(ZlibDecoder::new(input.0))?;
        input.0 = &unpacked;
    }
    let count = input.u32()?;
    let mut literals = Vec::new();
    for _ in 0..count {
        let length = input.u32()? as usize;
        let bytes = input.take(length)?;
        // A term that is too deep or too large for our decoder holds no time-out.
        let value = etf::decode(bytes, &etf::Limits::default());
        literals.push(value.as_ref().map_or(Term::Other, Term::from));
    }
    Ok(literals)
}

fn code(bytes: &[u8]) -> Result<Vec<Instruction>, BeamError> {
    let mut input = Input(bytes);
    // The rest of the header (version, opcodes, labels, functions) is said again by the code.
    let header = input.u32()? as usize;
    input.take(header)?;
    let mut code = Vec::new();
    while !input.0.is_empty() {
        let opcode = input.u8()?;
        let arity = opcodes::arity(opcode).ok_or(BeamError::Opcode(opcode))?;
        let operands = (0..arity).map(|_| input.operand(OPERAND_DEPTH_MAX));
        code.push(Instruction { opcode, operands: operands.collect::<Result<_, _>>()? });
        if opcode == opcodes::INT_CODE_END {
            return Ok(code);
        }
    }
    Err(BeamError::Damaged("its code has no end"))
}

/// Number 0 is no location.
fn lines(bytes: &[u8]) -> Result<Vec<u32>, BeamError> {
    let mut input = Input(bytes);
    // Version, flags, number of line instructions.
    input.take(12)?;
    let count = input.u32()?;
    input.u32()?;
    let mut lines = vec![0];
    while lines.len() <= count as usize {
        match input.compact()? {
            (1, line) => lines.push(line.and_then(|line| line.try_into().ok()).unwrap_or(0)),
            // From here on another file.
            (2, _) => {}
            _ => return Err(BeamError::Damaged("the table of lines")),
        }
    }
    Ok(lines)
}
