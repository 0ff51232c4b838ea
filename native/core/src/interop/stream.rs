//! Reads a text of records part by part, several parts at the same time.
//!
//! Text and records of a large history are never both in memory: one thread reads, unpacks and cuts the
//! text where a line begins with what can begin a record, others turn the parts into records. A cut may
//! hit the inside of a string, of a discarded form or of a record of several lines. Then the part before it
//! ends too early, and is read again together with what follows; a part that was read without such an
//! error ends where a record ends, so the next one begins rightly.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use super::Records;
use super::edn::{Memory, ParseError, Problem};
use super::error::{LoadError, Place, place};
use super::input::{Input, TEXT_BYTES_MAX, input_error};

/// The first part is small: it tells how the records are enclosed.
const FIRST_PART_BYTES: usize = 64 << 10;
/// Large enough that threads rarely wait for each other, small against what the records take.
const PART_BYTES: usize = 4 << 20;
/// More threads than this gain nothing: memory is what they wait for.
const THREADS_MAX: usize = 4;

/// What a part of the text stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The beginning of the text.
    Start,
    /// Records, enclosed by nothing.
    Lines,
    /// Records of a vector, list or array.
    Inside {
        /// What it is called.
        what: &'static str,
        /// What ends it.
        close: u8,
        /// Where it began.
        opened: Place,
    },
    /// Behind the end of the vector, list or array.
    After,
}

/// What a part gave, and what the next one stands in.
pub(super) struct Part {
    pub records: Records,
    pub mode: Mode,
}

/// Why a part cannot be read, and how many records precede that.
pub(super) struct PartError {
    pub error: Box<ParseError>,
    pub record_count: usize,
}

/// A part of a text, to be read.
pub(super) struct PartText<'a> {
    pub text: &'a str,
    /// How many lines of the whole text precede it.
    pub lines_before: usize,
    pub mode: Mode,
    /// Whether it is the end of the whole text.
    pub is_last: bool,
}

/// Reads the records of a part.
pub(super) type ReadPart = fn(PartText<'_>, Memory) -> (Memory, Result<Part, PartError>);

/// How a text is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutting {
    pub first_part_bytes: usize,
    pub part_bytes: usize,
    pub thread_count: usize,
}

impl Cutting {
    /// For this machine.
    pub fn usual() -> Cutting {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
        Cutting {
            first_part_bytes: FIRST_PART_BYTES,
            part_bytes: PART_BYTES,
            thread_count: threads.min(THREADS_MAX),
        }
    }
}

/// Reads every record of a text.
pub(super) fn read(
    input: Input<'_>,
    read_part: ReadPart,
    cutting: Cutting,
) -> Result<Records, LoadError> {
    let name = input.name.clone();
    let mut parts = Parts::new(input.into_reader(), cutting);
    let first = match parts.next() {
        Some(first) => first.map_err(|error| input_error(&name, error))?,
        None => return Err(LoadError::Empty { path: name }),
    };
    // A short text has nothing worth a table of lists.
    let memories = match first.is_last {
        true => vec![Memory::default()],
        false => (0..cutting.thread_count).map(|_| Memory::with_sharing()).collect(),
    };
    let joiner = Joiner {
        name: &name,
        read_part,
        memories,
        mode: Mode::Start,
        whole: Records::default(),
        pending: VecDeque::from([first]),
    };
    if joiner.pending[0].is_last {
        return joiner.run(None);
    }
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(cutting.thread_count);
        scope.spawn(move || {
            for part in parts {
                let failed = part.is_err();
                // Nobody listens any more once an error was found.
                if send.send(part).is_err() || failed {
                    break;
                }
            }
        });
        joiner.run(Some(receive))
    })
}

/// Bytes of a part, from the beginning of a line on.
struct Bytes {
    bytes: Vec<u8>,
    lines_before: usize,
    is_last: bool,
}

/// Cuts a text into parts.
struct Parts<R> {
    read: R,
    /// What was read and not given away.
    carry: Vec<u8>,
    lines_before: usize,
    at_least: usize,
    cutting: Cutting,
    has_ended: bool,
}

impl<R: Read> Parts<R> {
    fn new(read: R, cutting: Cutting) -> Parts<R> {
        let at_least = cutting.first_part_bytes;
        Parts { read, carry: Vec::new(), lines_before: 0, at_least, cutting, has_ended: false }
    }

    /// Where the last line begins that may begin a record, from the byte `from` on.
    fn cut(&self, from: usize) -> Option<usize> {
        let bytes = &self.carry;
        let mut end = bytes.len();
        while let Some(newline) = bytes[from..end].iter().rposition(|&byte| byte == b'\n') {
            let line = from + newline + 1;
            let first = bytes[line..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
            if matches!(first, Some(b'{' | b'#')) {
                return Some(line);
            }
            end = from + newline;
        }
        None
    }
}

impl<R: Read> Iterator for Parts<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.has_ended {
            return None;
        }
        let mut wanted = self.at_least;
        let mut searched = 0;
        let end = loop {
            let missing = wanted.saturating_sub(self.carry.len()) as u64;
            self.carry.reserve(missing as usize);
            match self.read.by_ref().take(missing).read_to_end(&mut self.carry) {
                Ok(_) if self.carry.len() < wanted => {
                    self.has_ended = true;
                    break self.carry.len();
                }
                Ok(_) => {}
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            }
            if let Some(cut) = self.cut(searched).filter(|&cut| cut > 0) {
                break cut;
            }
            if self.carry.len() >= TEXT_BYTES_MAX {
                self.has_ended = true;
                let problem = "no record ends within 4 GiB: this is not a history";
                return Some(Err(io::Error::other(problem)));
            }
            // The last line may go on.
            searched = self.carry.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
            wanted = self.carry.len() * 2;
        };
        self.at_least = self.cutting.part_bytes;
        let rest = self.carry.split_off(end);
        let bytes = std::mem::replace(&mut self.carry, rest);
        let lines_before = self.lines_before;
        self.lines_before += bytes.iter().filter(|&&byte| byte == b'\n').count();
        Some(Ok(Bytes { bytes, lines_before, is_last: self.has_ended }))
    }
}

/// Puts parts together, in order.
struct Joiner<'a> {
    name: &'a str,
    read_part: ReadPart,
    /// One for each thread.
    memories: Vec<Memory>,
    /// What the next part stands in.
    mode: Mode,
    whole: Records,
    /// Parts that have not been read, or not to their end.
    pending: VecDeque<Bytes>,
}

impl Joiner<'_> {
    fn run(mut self, receive: Option<Receiver<io::Result<Bytes>>>) -> Result<Records, LoadError> {
        loop {
            // Until the enclosing is known, more parts could only be guessed at.
            let count = if self.mode == Mode::Start { 1 } else { self.memories.len() };
            while self.pending.len() < count
                && let Some(part) = self.next(receive.as_ref())?
            {
                self.pending.push_back(part);
            }
            let mut results: VecDeque<_> = self.read_at_once(count).into();
            if results.is_empty() {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(LoadError::Io { path: self.name.to_owned(), source });
            }
            while let Some(result) = results.pop_front()
                && let Some(bytes) = self.pending.pop_front()
            {
                match result {
                    Ok(part) => {
                        self.whole.join(part.records);
                        let expected = std::mem::replace(&mut self.mode, part.mode);
                        if bytes.is_last {
                            return self.end(&bytes);
                        }
                        if expected != self.mode {
                            break;
                        }
                    }
                    Err(PartError { error, .. }) if error.is_truncated() && !bytes.is_last => {
                        self.lengthen(bytes, receive.as_ref())?;
                        break;
                    }
                    Err(error) => return Err(self.error(error, &bytes)),
                }
            }
        }
    }

    fn next(
        &self,
        receive: Option<&Receiver<io::Result<Bytes>>>,
    ) -> Result<Option<Bytes>, LoadError> {
        match receive.map(Receiver::recv) {
            Some(Ok(part)) => part.map(Some).map_err(|error| input_error(self.name, error)),
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// Reads the first pending parts, as if each stood in what the first does.
    fn read_at_once(&mut self, count: usize) -> Vec<Result<Part, PartError>> {
        let (mode, read_part) = (self.mode, self.read_part);
        let read = move |bytes: &Bytes, memory: &mut Memory| {
            let (kept, part) = read_bytes(bytes, mode, read_part, std::mem::take(memory));
            *memory = kept;
            part
        };
        let parts = self.pending.iter().take(count);
        let mut work: Vec<(&Bytes, &mut Memory)> = parts.zip(&mut self.memories).collect();
        if work.len() == 1 {
            return work.into_iter().map(|(bytes, memory)| read(bytes, memory)).collect();
        }
        std::thread::scope(|scope| {
            let first = if work.is_empty() { None } else { Some(work.remove(0)) };
            let others: Vec<_> = work
                .into_iter()
                .map(|(bytes, memory)| scope.spawn(move || read(bytes, memory)))
                .collect();
            let first = first.map(|(bytes, memory)| read(bytes, memory));
            let others = others.into_iter().map(|thread| match thread.join() {
                Ok(part) => part,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            first.into_iter().chain(others).collect()
        })
    }

    /// Puts back a part that ends too early, with at least as much again of what follows.
    fn lengthen(
        &mut self,
        mut part: Bytes,
        receive: Option<&Receiver<io::Result<Bytes>>>,
    ) -> Result<(), LoadError> {
        let wanted = part.bytes.len() * 2;
        while part.bytes.len() < wanted && !part.is_last {
            let next = match self.pending.pop_front() {
                Some(next) => Some(next),
                None => self.next(receive)?,
            };
            let Some(next) = next else { break };
            part.bytes.extend_from_slice(&next.bytes);
            part.is_last = next.is_last;
        }
        if part.bytes.len() > TEXT_BYTES_MAX {
            let path = self.name.to_owned();
            return Err(LoadError::TooLarge { path, bytes_max: TEXT_BYTES_MAX });
        }
        self.pending.push_front(part);
        Ok(())
    }

    fn end(self, bytes: &Bytes) -> Result<Records, LoadError> {
        let Mode::Inside { what, opened, .. } = self.mode else {
            return Ok(self.whole);
        };
        Err(LoadError::Truncated {
            path: self.name.to_owned(),
            place: bytes.place(bytes.bytes.len()),
            inside: what,
            opened,
            record_count: self.whole.ops.len(),
        })
    }

    fn error(&self, PartError { error, record_count }: PartError, bytes: &Bytes) -> LoadError {
        let (path, place) = (self.name.to_owned(), bytes.place(error.offset));
        match error.problem {
            Problem::Truncated(inside) => LoadError::Truncated {
                path,
                place,
                inside,
                opened: bytes.place(error.opened.unwrap_or(error.offset)),
                record_count: self.whole.ops.len() + record_count,
            },
            problem => problem.at(path, place),
        }
    }
}

impl Bytes {
    /// The place of a byte of this part in the whole text.
    fn place(&self, offset: usize) -> Place {
        let place = place(&self.bytes, offset);
        Place { line: place.line + self.lines_before, ..place }
    }
}

fn read_bytes(
    part: &Bytes,
    mode: Mode,
    read_part: ReadPart,
    memory: Memory,
) -> (Memory, Result<Part, PartError>) {
    let (lines_before, is_last) = (part.lines_before, part.is_last);
    match std::str::from_utf8(&part.bytes) {
        Ok(text) => read_part(PartText { text, lines_before, mode, is_last }, memory),
        Err(error) => {
            let offset = error.valid_up_to();
            let byte = part.bytes.get(offset).copied().unwrap_or(0);
            let problem = Problem::NotUtf8 { byte };
            let error = Box::new(ParseError { offset, opened: None, problem });
            (memory, Err(PartError { error, record_count: 0 }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{edn_history, json_read};
    use super::*;
    use proptest::prelude::*;

    fn read_cut(text: &str, json: bool, cutting: Cutting) -> Result<Records, LoadError> {
        let input = Input::open("h".to_owned(), text.as_bytes())?;
        let read_part = if json { json_read::read_part } else { edn_history::read_part };
        read(input, read_part, cutting)
    }

    /// The text read as one part, which is the simple way, and in many.
    fn assert_same(text: &str, json: bool) {
        let whole = Cutting { first_part_bytes: 1 << 20, part_bytes: 1 << 20, thread_count: 1 };
        let whole = read_cut(text, json, whole);
        for (first_part_bytes, part_bytes, thread_count) in
            [(1, 1, 1), (1, 1, 3), (7, 40, 2), (64, 90, 4)]
        {
            let cutting = Cutting { first_part_bytes, part_bytes, thread_count };
            match (&whole, read_cut(text, json, cutting)) {
                (Ok(whole), Ok(parts)) => {
                    assert_eq!(parts.ops, whole.ops, "{text}");
                    assert_eq!(parts.places, whole.places, "{text}");
                    assert_eq!(parts.notices, whole.notices, "{text}");
                    assert_eq!(parts.numbering.renumbered(), whole.numbering.renumbered());
                    assert_eq!(parts.without_f_count, whole.without_f_count);
                }
                (Err(whole), Err(parts)) => assert_eq!(parts.to_string(), whole.to_string()),
                (whole, parts) => panic!("{text}\n{:?}\n{:?}", whole.is_ok(), parts.is_ok()),
            }
        }
    }

    /// Pieces of which texts are made: whole records, parts of such, and what a cut may hit.
    fn pieces(json: bool) -> BoxedStrategy<String> {
        let edn: &[&str] = &[
            "{:type :invoke :process 0 :f :r :index 3}\n",
            " {:type :ok :process 1 :f :w :value \"\n{:type\n\"}\n",
            "#_\n{:type :nonsense}\n",
            "#:a\n{:b 1}\n",
            "#jepsen.history.Op\n{:type :info, :process 2, :f nil, :value [1\n{:k #x 2/3}]}",
            "; a comment \"\n",
            "\n",
            "[\n",
            "]\n",
            "{:type\n",
            "é\n{\n",
            "{:type :ok :process 1 :value [[:r :x [1 2 3]] [:r :x [1 2 3]]]}\n",
        ];
        let objects: &[&str] = &[
            "{\"type\":\"invoke\",\"process\":0,\"f\":\"r\"}\n",
            "{\"type\":\"ok\",\n  \"value\":[\n{\"a\":[1,2]}\n],\"process\":1}\n",
            ",\n",
            ",",
            "[\n",
            "]\n",
            "\n",
            "{\"type\":\n",
            "é\n",
        ];
        let pieces: Vec<&'static str> = if json { objects.to_vec() } else { edn.to_vec() };
        let piece = proptest::sample::select(pieces);
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()).boxed()
    }

    /// As many records as make several parts, of which some are changed.
    fn lines(json: bool) -> BoxedStrategy<String> {
        (1usize..40, 0usize..80, any::<bool>())
            .prop_map(move |(count, odd, enclosed)| {
                let line = |i: usize| match (json, i == odd) {
                    (false, false) => {
                        format!("{{:index {i}, :type :invoke, :process {i}, :f :r, :value #t 1/3}}")
                    }
                    (false, true) => "{:index 700, :type :info, :process :nemesis}".to_owned(),
                    (true, false) => {
                        format!("{{\"index\":{i},\"type\":\"invoke\",\"process\":{i},\"f\":\"r\"}}")
                    }
                    (true, true) => "{\"type\":\"okay\",\"process\":1}".to_owned(),
                };
                let separator = if json && enclosed { ",\n" } else { "\n" };
                let text = (0..count).map(line).collect::<Vec<_>>().join(separator);
                if enclosed { format!("[{text}\n]\n") } else { text + "\n" }
            })
            .boxed()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn parts_of_edn_give_what_the_whole_gives(
            text in prop_oneof![pieces(false), lines(false)],
        ) {
            assert_same(&text, false);
        }

        #[test]
        fn parts_of_json_give_what_the_whole_gives(
            text in prop_oneof![pieces(true), lines(true)],
        ) {
            assert_same(&text, true);
        }
    }

    #[test]
    fn a_text_without_end_of_a_record_is_read_once_it_is_there() {
        let long = format!("{{:type :invoke :process 0 :value [{}]}}\n", "\n{:a 1}".repeat(2000));
        assert_same(&long, false);
    }
}
