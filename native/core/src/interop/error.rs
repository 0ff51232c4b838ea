//! What can be wrong with a history, said so that it can be put right.

use crate::history::HistoryError;
use crate::history_file::HistoryFileError;
use crate::op::OpType;
use crate::sym::{Sym, SymTableFull};
use crate::value::Value;

use super::edn::Problem;

/// A place in a text, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Place {
    /// The place behind these bytes, which begin at this one.
    pub(super) fn behind(self, bytes: &[u8]) -> Place {
        let characters = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
        match memchr::memrchr(b'\n', bytes) {
            None => Place { column: self.column + characters(bytes), ..self },
            Some(last) => {
                let lines = 1 + memchr::memchr_iter(b'\n', &bytes[..last]).count();
                Place { line: self.line + lines, column: 1 + characters(&bytes[last + 1..]) }
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text and what to call it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    /// The place of a byte.
    pub fn place(&self, offset: usize) -> Place {
        place(self.text.as_bytes(), offset)
    }

    /// An error at a byte.
    pub fn syntax(&self, offset: usize, message: impl Into<String>) -> LoadError {
        let (path, place) = (self.name.to_owned(), self.place(offset));
        LoadError::Syntax { path, place, message: message.into() }
    }
}

impl Problem {
    /// The error that this is at a place; where a text is cut off takes two.
    pub fn at(self, path: String, place: Place) -> LoadError {
        match self {
            Problem::Syntax(message) => LoadError::Syntax { path, place, message },
            Problem::Truncated(inside) => {
                LoadError::Truncated { path, place, inside, opened: place, record_count: 0 }
            }
            Problem::Shape(source) => LoadError::Shape { path, place, source },
            Problem::Names(source) => LoadError::Names { path, place, source },
            Problem::NotUtf8 { byte } => LoadError::NotUtf8 { path, place, byte },
        }
    }
}

/// The place of a byte in bytes that need not be UTF-8 behind it.
pub(super) fn place(bytes: &[u8], offset: usize) -> Place {
    let before = &bytes[..offset.min(bytes.len())];
    let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    // Continuation bytes of UTF-8 are not characters of their own.
    let column = 1 + before[line_start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
    Place { line, column }
}

impl LoadError {
    /// Whether nothing is wrong with the history, but it needs more memory than the program may use.
    pub fn is_over_memory(&self) -> bool {
        let source = match self {
            LoadError::Io { source, .. }
            | LoadError::Unpack { source, .. }
            | LoadError::HistoryFile(HistoryFileError::Io { source, .. }) => source,
            _ => return false,
        };
        source.kind() == std::io::ErrorKind::OutOfMemory
    }
}

/// Why a map is not an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Something other than a map.
    #[error(
        "expected an operation such as {{:type :invoke, :process 0, :f :read, :value nil}}, found {found}"
    )]
    NotAMap {
        /// What stands there.
        found: String,
    },
    /// A map without any key of an operation.
    #[error(
        "this map is not an operation: its keys are {keys}; is this the history, or results or a test map?"
    )]
    NotAnOperation {
        /// Its keys.
        keys: String,
    },
    /// No `:type`.
    #[error("the operation has no :type; it must be one of :invoke :ok :fail :info")]
    NoType,
    /// A `:type` that there is not.
    #[error("unknown :type {found}; it must be one of :invoke :ok :fail :info{hint}")]
    UnknownType {
        /// What it is.
        found: String,
        /// `; did you mean …?`, or nothing.
        hint: String,
    },
    /// No `:process`.
    #[error(
        "the operation has no :process, so invocations and completions cannot be matched; {}",
        process_advice(*.field)
    )]
    NoProcess {
        /// A field that may be it.
        field: Option<Sym>,
    },
    /// A `:process` that is neither a number nor a name.
    #[error("a :process is an integer for clients or a name such as :nemesis, found {found}")]
    BadProcess {
        /// What it is.
        found: String,
    },
    /// A name for a process that does what only clients do.
    #[error(
        "{op_type} of process :{name}: clients are integers, and other processes only have records of type \
         :info; number the clients",
        op_type = .op_type.as_str()
    )]
    NamedClient {
        /// Its name.
        name: Sym,
        /// What it is said to have done.
        op_type: OpType,
    },
    /// A `:time` or `:index` that is no integer.
    #[error("{key} must be an integer{unit}, found {found}")]
    NotAnInteger {
        /// Which key.
        key: &'static str,
        /// ` of nanoseconds`, or nothing.
        unit: &'static str,
        /// What it is.
        found: String,
    },
    /// A key of an operation that is no name.
    #[error("the keys of an operation are keywords such as :type, found {found}")]
    BadKey {
        /// What it is.
        found: String,
    },
    /// A key that stands twice.
    #[error("the operation has {key} twice")]
    DuplicateKey {
        /// Which.
        key: String,
    },
    /// Too many different names.
    #[error(transparent)]
    Names(#[from] SymTableFull),
}

fn process_advice(field: Option<Sym>) -> String {
    match field {
        Some(field) => format!("is it :{field}? then name that field :process"),
        None => "give each client a number".to_owned(),
    }
}

impl ShapeError {
    /// A type that there is not.
    pub(super) fn unknown_type(found: &Value) -> ShapeError {
        let names: Vec<&str> =
            [OpType::Invoke, OpType::Ok, OpType::Fail, OpType::Info].map(OpType::as_str).to_vec();
        let hint = found
            .as_text()
            .and_then(|text| crate::spec::suggest::nearest(text, names))
            .map(|name| format!("; did you mean :{name}?"))
            .unwrap_or_default();
        ShapeError::UnknownType { found: shown(found), hint }
    }
}

/// A value for a message: not longer than a line.
pub(super) fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = super::edn_of_value(value);
    match text.char_indices().nth(CHARS_MAX) {
        None => text,
        Some((cut, _)) => format!("{}…", &text[..cut]),
    }
}

/// Why there is no history. Paths are as given.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system says no.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// No records.
    #[error(
        "{path} contains no operations: an empty history proves nothing; did the run record anything?"
    )]
    Empty {
        /// The file.
        path: String,
    },
    /// Not text.
    #[error(
        "{path}:{place}: not UTF-8 text (byte {byte:#04x}); a history in EDN or JSON is UTF-8: is this \
         another file, or another encoding?"
    )]
    NotUtf8 {
        /// The file.
        path: String,
        /// Where the first wrong byte stands.
        place: Place,
        /// That byte.
        byte: u8,
    },
    /// Something else altogether.
    #[error("{path} is not a history: it {found}; {advice}")]
    OtherFormat {
        /// The file.
        path: String,
        /// What it looks like, as a verb phrase.
        found: String,
        /// What to do.
        advice: String,
    },
    /// Not EDN, or not JSON.
    #[error("{path}:{place}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// Where.
        place: Place,
        /// What was found and what was expected.
        message: String,
    },
    /// The file ends too early.
    #[error(
        "{path}:{place}: the file ends inside {inside} that begins at {opened}: it was cut off; \
         {record_count} complete records precede it (remove the rest, or export it again)"
    )]
    Truncated {
        /// The file.
        path: String,
        /// Where it ends.
        place: Place,
        /// What is incomplete.
        inside: &'static str,
        /// Where that begins.
        opened: Place,
        /// How many records precede it.
        record_count: usize,
    },
    /// A record is not an operation.
    #[error("{path}:{place}: {source}")]
    Shape {
        /// The file.
        path: String,
        /// Where the record begins, or the key.
        place: Place,
        /// What is wrong with it.
        source: ShapeError,
    },
    /// The records do not make a history.
    #[error("{path}{}: {source}", place.map(|place| format!(":{place}")).unwrap_or_default())]
    History {
        /// The file.
        path: String,
        /// Where the offending record begins, for text.
        place: Option<Place>,
        /// Why.
        source: HistoryError,
    },
    /// Packed bytes cannot be unpacked.
    #[error(
        "{path} is packed with {method} and cannot be unpacked to its end ({unpacked_bytes} bytes came out \
         of it before): {source}; it is damaged or was cut off: fetch it again, or unpack by hand what can \
         be saved"
    )]
    Unpack {
        /// The file.
        path: String,
        /// What it is packed with.
        method: &'static str,
        /// How much could be unpacked.
        unpacked_bytes: u64,
        /// Why no more.
        source: std::io::Error,
    },
    /// More text than can be held at once.
    #[error(
        "{path}: more than {bytes_max} bytes without the end of a record, or in a format that is read as a \
         whole: this is not a history, or one to be split"
    )]
    TooLarge {
        /// The file.
        path: String,
        /// How many there may be.
        bytes_max: usize,
    },
    /// Too many different names.
    #[error("{path}:{place}: {source}")]
    Names {
        /// The file.
        path: String,
        /// Where.
        place: Place,
        /// Why.
        source: SymTableFull,
    },
    /// A term that is no list was given for a history.
    #[error("{name} is not a list of operations: it is {found}")]
    NotAList {
        /// What stands for it.
        name: String,
        /// What it is.
        found: String,
    },
    /// A term of a list is not an operation.
    #[error("{name}, record {position}: {source}")]
    Record {
        /// What stands for the list.
        name: String,
        /// Its place in the list, from 0.
        position: usize,
        /// What is wrong with it.
        source: ShapeError,
    },
    /// Our own file cannot be read.
    #[error(transparent)]
    HistoryFile(#[from] HistoryFileError),
}

/// Which record an error is about.
pub(super) fn position_of(error: &HistoryError) -> Option<usize> {
    match error {
        HistoryError::DoubleInvoke { index, .. }
        | HistoryError::OrphanCompletion { index, .. }
        | HistoryError::Mismatched { index, .. } => usize::try_from(*index).ok(),
        HistoryError::TooLong => None,
    }
}
