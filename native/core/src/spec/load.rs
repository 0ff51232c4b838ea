//! Reads a spec: text to [`Spec`], with every problem placed in the file.
//!
//! Three passes: TOML's own grammar, the keys and shapes ([`super::walk`]), the meaning
//! ([`super::validate`]). A pass runs only when the one before it found nothing.

use std::fs;
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use super::error::{Problem, SpecError};
use super::validate::{self, Wrong};
use super::walk::{self, Walk};
use super::{ClusterSpec, NemesisSpec, Placement, Spec, suggest};

/// More than any spec needs; what is longer is another kind of file.
const SPEC_BYTES_MAX: u64 = 4 << 20;

/// A spec with the text that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedSpec {
    /// Defaults filled in, validated.
    pub spec: Spec,
    /// As it stands in the file.
    pub text: String,
}

/// Reads, parses and validates the spec at `path`, and makes its paths absolute.
pub fn load(path: &Path) -> Result<LoadedSpec, SpecError> {
    let file = path.display().to_string();
    let text = read(path, &file)?;
    let mut spec = parse(&text, &file)?;
    let folder = std::path::absolute(path).ok().and_then(|path| Some(path.parent()?.to_owned()));
    if let Some(folder) = folder {
        anchor(&mut spec, &folder);
    }
    Ok(LoadedSpec { spec, text })
}

/// Reads a profile: a TOML file with a `[nemesis]` table and nothing else, which replaces that of a spec. What
/// it means depends on the spec (nodes, ports), so the whole is to be validated afterwards.
pub fn load_profile(path: &Path) -> Result<NemesisSpec, SpecError> {
    let file = path.display().to_string();
    let text = read(path, &file)?;
    let spec = parse_unvalidated(&text, &file)?;
    let document = DeTable::parse(&text).map_err(|error| syntax(&text, &file, &error))?;
    let other: Vec<Problem> = document
        .get_ref()
        .keys()
        .filter(|key| key.get_ref() != "nemesis")
        .map(|key| Problem {
            place: Some(place_of(&text, key.span().start)),
            key: key.get_ref().to_string(),
            message: "a profile of faults holds only [nemesis]".into(),
        })
        .collect();
    if !other.is_empty() || document.get_ref().is_empty() {
        let key = String::new();
        let message = "holds no [nemesis]: not a profile of faults".to_owned();
        let empty = vec![Problem { place: None, key, message }];
        return Err(wrong(&file, if other.is_empty() { empty } else { other }));
    }
    let mut spec = spec;
    if let Some(folder) = std::path::absolute(path).ok().as_deref().and_then(Path::parent) {
        anchor(&mut spec, folder);
    }
    Ok(spec.nemesis)
}

/// Makes code paths, programs with a slash and the schedule absolute: in a spec they are relative to its
/// folder, and nodes run in folders of their own. The store stays relative to the working directory.
fn anchor(spec: &mut Spec, folder: &Path) {
    find_code(spec, folder);
    let cluster = &mut spec.cluster;
    let client = &mut spec.client;
    let programs = [cluster.command.first_mut(), client.command.first_mut()];
    let paths = programs
        .into_iter()
        .flatten()
        // Without a slash a program is looked up in PATH; a placeholder is not known yet.
        .filter(|program| program.contains('/') && !program.starts_with('{'))
        .chain(&mut cluster.code_paths)
        .chain(&mut client.code_paths)
        .chain(spec.nemesis.schedule.as_mut())
        .chain(&mut spec.nemesis.boundaries.mined_from);
    for path in paths {
        if let Some(absolute) = clean(&folder.join(&*path)).to_str() {
            *path = absolute.to_owned();
        }
    }
}

/// Gives VMs that are started with the default command the compiled code beside the spec, if no code path is given:
/// `ebin`, and what mix and rebar3 build.
fn find_code(spec: &mut Spec, folder: &Path) {
    let (paths, is_default) = match spec.placement {
        Placement::Node => {
            let is_default = spec.cluster.command == ClusterSpec::default().command;
            (&mut spec.cluster.code_paths, is_default)
        }
        Placement::Client => {
            let is_default = spec.client.command.is_empty();
            (&mut spec.client.code_paths, is_default)
        }
    };
    if !is_default || !paths.is_empty() {
        return;
    }
    let env = std::env::var("MIX_ENV").ok().filter(|env| !env.is_empty() && !env.contains('/'));
    let builds = [env.as_deref().unwrap_or("dev"), "default"];
    let is_there = |path: &str| folder.join(path).is_dir();
    paths.extend(is_there("ebin").then(|| "ebin".to_owned()));
    let build = builds.into_iter().find(|build| is_there(&format!("_build/{build}/lib")));
    paths.extend(build.map(|build| format!("_build/{build}/lib/*/ebin")));
}

/// Takes out `.`, and `..` with the folder before it, so that paths can be read by people. A path through
/// a link is left as it is, since there `..` is not the folder before it.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if cleaned.is_symlink() => return path.to_owned(),
            Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

/// Parses and validates `text`; `file` names it in errors.
pub fn parse(text: &str, file: &str) -> Result<Spec, SpecError> {
    let spec = parse_unvalidated(text, file)?;
    let document = DeTable::parse(text).map(|document| walk::walk(&document));
    let spans = document.map(|walk| walk.spans).unwrap_or_default();
    let problems: Vec<Problem> = validate::problems(&spec)
        .into_iter()
        .map(|Wrong { key, message }| {
            let place = nearest_span(&key, |key| spans.get(key).cloned())
                .map(|span| place_of(text, span.start));
            Problem { place, key, message }
        })
        .collect();
    if problems.is_empty() { Ok(spec) } else { Err(wrong(file, problems)) }
}

/// Parses `text` and refuses unknown keys and wrong shapes, but leaves the values' meaning alone:
/// for callers that fill in or override something before they call [`validate::validate`].
pub fn parse_unvalidated(text: &str, file: &str) -> Result<Spec, SpecError> {
    let document = DeTable::parse(text).map_err(|error| syntax(text, file, &error))?;
    let Walk { found, .. } = walk::walk(&document);
    let mut problems: Vec<Problem> = found
        .into_iter()
        .map(|found| Problem {
            place: Some(place_of(text, found.span.start)),
            key: found.key,
            message: found.message,
        })
        .collect();
    if problems.is_empty() {
        let mut spec: Spec = toml::from_str(text).map_err(|error| syntax(text, file, &error))?;
        if spec.nemesis.faults.is_empty() && names_faults(&document) {
            // Whoever writes an empty list of faults has chosen none.
            spec.nemesis.packages.get_or_insert_default();
        }
        return Ok(spec);
    }
    problems.sort_by_key(|problem| problem.place);
    Err(wrong(file, problems))
}

/// Whether the key `nemesis.faults` is there.
fn names_faults(document: &toml::Spanned<DeTable<'_>>) -> bool {
    let nemesis = document.get_ref().get("nemesis").and_then(|table| table.get_ref().as_table());
    nemesis.is_some_and(|table| table.contains_key("faults"))
}

fn wrong(file: &str, mut problems: Vec<Problem>) -> SpecError {
    problems.sort_by_key(|problem| problem.place);
    SpecError::Wrong { file: file.to_owned(), problems }
}

fn syntax(text: &str, file: &str, error: &toml::de::Error) -> SpecError {
    let place = error.span().map(|span| place_of(text, span.start));
    let message = error.message().trim_end().replace('\n', "; ");
    wrong(file, vec![Problem { place, key: String::new(), message }])
}

/// The span of a key, or of the closest table or list around it that the file has.
fn nearest_span(key: &str, find: impl Fn(&str) -> Option<Range<usize>>) -> Option<Range<usize>> {
    let mut key = key;
    loop {
        if let Some(span) = find(key) {
            return Some(span);
        }
        key = &key[..key.rfind(['.', '['])?];
    }
}

/// Line and column, both from 1, of a key in the text of a spec (`nemesis.faults[0].kind`), or else of the nearest that
/// holds it; `None` if there is no such key, or the text is no TOML.
pub fn place(text: &str, key: &str) -> Option<(usize, usize)> {
    let spans = walk::walk(&DeTable::parse(text).ok()?).spans;
    let span = nearest_span(key, |key| spans.get(key).cloned())?;
    Some(place_of(text, span.start))
}

/// Line and column of a byte offset, both from 1.
fn place_of(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn read(path: &Path, file: &str) -> Result<String, SpecError> {
    let unreadable =
        |reason: String, source| SpecError::Unreadable { file: file.to_owned(), reason, source };
    if path.is_dir() {
        let reason = "is a directory; a spec is a TOML file (a run keeps its own in spec.toml)";
        return Err(unreadable(reason.into(), None));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(SPEC_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::NotFound => format!("no such file{}", near_file(path)),
                _ => format!("cannot be read: {error}"),
            };
            unreadable(reason, Some(error))
        })?;
    if bytes.len() as u64 > SPEC_BYTES_MAX {
        let reason = format!("is longer than {} MiB: not a spec", SPEC_BYTES_MAX >> 20);
        return Err(unreadable(reason, None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let before = String::from_utf8_lossy(&bytes[..at]);
        let place = place_of(&before, before.len());
        let message = format!("is not UTF-8: byte 0x{:02x}; a spec is UTF-8 text", bytes[at]);
        wrong(file, vec![Problem { place: Some(place), key: String::new(), message }])
    })
}

/// A file of nearly that name in the same folder.
fn near_file(path: &Path) -> String {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return format!(", and no folder {}", folder.display());
    };
    let names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let wanted = path.file_name().map(|name| name.to_string_lossy().into_owned());
    wanted
        .and_then(|wanted| suggest::nearest(&wanted, names.iter().map(String::as_str)))
        .map(|near| format!("; did you mean `{}`?", path.with_file_name(near).display()))
        .unwrap_or_default()
}
