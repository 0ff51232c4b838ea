//! Kinds of faults, plane by plane, and what can be said of each without a cluster.
//!
//! Every plane has a file here with the enum of its kinds and a table of them ([`PlaneFault::KINDS`]). The
//! table is what specs are checked against, what `doc/spec.md` explains and what `fuzz_dist doctor` lists.
//! Whether a kind can be had on this machine is for the runner, which owns the planes, to say
//! ([`Availability`]).

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::carrier::CarrierFault;
use super::clock::ClockFault;
use super::disk::DiskFault;
use super::link::LinkFault;
use super::membership::MembershipFault;
use super::net::NetFault;
use super::process::ProcessFault;
use super::vm::VmFault;
use crate::spec::keys::Key;
use crate::spec::suggest;

/// What a fault happens to, and so what its targets resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Directed links between nodes.
    Links,
    /// Nodes.
    Nodes,
    /// The cluster as a whole: a state machine chooses the nodes when the fault starts.
    Cluster,
}

/// How long a fault lasts when the spec does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Durations are drawn around this boundary.
    Around(&'static str),
    /// What it does is done in an instant.
    Instant,
    /// As long as a machine takes to come back.
    Away,
}

/// One kind of fault, as data.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// As it is written in specs, schedules and histories.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub meaning: &'static str,
    /// What it happens to.
    pub subject: Subject,
    /// How long it lasts when nothing is said.
    pub lasts: Lasts,
    /// Whether it can be about a named TCP port instead of the distribution.
    pub port: bool,
    /// Its parameters.
    pub keys: &'static [Key],
}

impl Kind {
    /// A kind without parameters that is about the distribution only.
    pub(super) const fn new(
        name: &'static str,
        subject: Subject,
        lasts: Lasts,
        meaning: &'static str,
    ) -> Kind {
        Kind { name, meaning, subject, lasts, port: false, keys: &[] }
    }

    /// The same for named TCP ports as well.
    pub(super) const fn on_ports(self) -> Kind {
        Kind { port: true, ..self }
    }

    /// The same with parameters.
    pub(super) const fn with(self, keys: &'static [Key]) -> Kind {
        Kind { keys, ..self }
    }
}

/// A parameter that makes no sense: its key, and what is wrong with it.
pub type Objection = (&'static str, String);

/// The faults of one plane.
pub trait PlaneFault: Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug {
    /// Every kind, in the order in which they are told.
    const KINDS: &'static [Kind];

    /// The name in schedules, histories and reports.
    fn name(&self) -> &'static str;

    /// One of each kind with every parameter set, in the order of [`PlaneFault::KINDS`].
    fn samples() -> Vec<Self>;

    /// What is wrong with its parameters.
    fn objections(&self) -> Vec<Objection> {
        Vec::new()
    }
}

/// Whether a fault can be had here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "availability", content = "reason", rename_all = "kebab-case")]
pub enum Availability {
    /// It is the real thing.
    Real,
    /// Something that looks alike to the nodes; how, and how it differs.
    Emulated(String),
    /// It cannot be had; why, and what would help.
    Unavailable(String),
}

impl Availability {
    /// A plane or kind that no code stands behind.
    pub fn not_built() -> Availability {
        Availability::Unavailable("not built".into())
    }

    /// Why it cannot be had.
    pub fn unavailable(&self) -> Option<&str> {
        match self {
            Availability::Unavailable(reason) => Some(reason),
            Availability::Real | Availability::Emulated(_) => None,
        }
    }
}

/// The planes: one line each.
macro_rules! planes {
    ($($(#[$doc:meta])* $plane:ident($fault:ty) = $name:literal,)+) => {
        /// A way to inject faults.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(rename_all = "kebab-case")]
        pub enum Plane {
            $($(#[$doc])* $plane,)+
        }

        impl Plane {
            /// Every plane. A name that several of them have means the first.
            pub const ALL: &'static [Plane] = &[$(Plane::$plane,)+];

            /// Their names.
            pub const NAMES: &'static [&'static str] = &[$($name,)+];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Plane::$plane => $name,)+ }
            }

            /// Its kinds of faults.
            pub const fn kinds(self) -> &'static [Kind] {
                match self { $(Plane::$plane => <$fault as PlaneFault>::KINDS,)+ }
            }

            fn read(self, fields: serde_json::Value) -> serde_json::Result<FaultKind> {
                match self {
                    $(Plane::$plane => {
                        serde_json::from_value::<$fault>(fields).map(FaultKind::$plane)
                    })+
                }
            }
        }

        /// What to do. Written flat: `kind`, its parameters and, where several planes have a kind of this
        /// name and it is not the first of them that is meant, `plane`.
        #[derive(Debug, Clone, PartialEq)]
        pub enum FaultKind {
            $($(#[$doc])* $plane($fault),)+
        }

        $(impl From<$fault> for FaultKind {
            fn from(fault: $fault) -> FaultKind { FaultKind::$plane(fault) }
        })+

        impl FaultKind {
            /// The name in schedules, histories and reports.
            pub fn name(&self) -> &'static str {
                match self { $(FaultKind::$plane(fault) => fault.name(),)+ }
            }

            /// The plane that applies it.
            pub fn plane(&self) -> Plane {
                match self { $(FaultKind::$plane(_) => Plane::$plane,)+ }
            }

            /// What is wrong with its parameters.
            pub fn objections(&self) -> Vec<Objection> {
                match self { $(FaultKind::$plane(fault) => fault.objections(),)+ }
            }

            /// One of each kind of each plane, with every parameter set.
            pub fn samples() -> Vec<FaultKind> {
                let mut all = Vec::new();
                $(all.extend(<$fault>::samples().into_iter().map(FaultKind::$plane));)+
                all
            }

            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(FaultKind::$plane(fault) => fault.serialize(serializer),)+ }
            }
        }
    };
}

planes! {
    /// Bytes between nodes, in the proxies of the plane process.
    Link(LinkFault) = "link",
    /// Operating-system processes of nodes.
    Process(ProcessFault) = "process",
    /// Erlang processes, schedulers and connections inside a node.
    Vm(VmFault) = "vm",
    /// Packets between nodes, in the kernel.
    Net(NetFault) = "net",
    /// What a node reads from the clock.
    Clock(ClockFault) = "clock",
    /// What a node writes to and finds on its disk.
    Disk(DiskFault) = "disk",
    /// Who belongs to the cluster.
    Membership(MembershipFault) = "membership",
    /// Frames between nodes, inside the nodes, in the port driver that carries the distribution.
    Carrier(CarrierFault) = "carrier",
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no such kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownKind {
    /// No plane has it.
    #[error("unknown kind `{name}`; {hint}")]
    Nowhere {
        /// As it was written.
        name: String,
        /// What would be right.
        hint: String,
    },
    /// Another plane has it.
    #[error("the {plane} plane has no kind `{name}`; {hint}")]
    NotOf {
        /// The plane that was named.
        plane: Plane,
        /// As it was written.
        name: String,
        /// What would be right.
        hint: String,
    },
}

impl Plane {
    /// The plane of that name.
    pub fn named(name: &str) -> Option<Plane> {
        Plane::ALL.iter().copied().find(|plane| plane.as_str() == name)
    }

    fn kind(self, name: &str) -> Option<&'static Kind> {
        self.kinds().iter().find(|kind| kind.name == name)
    }
}

impl FaultKind {
    /// Every name, each once, for messages that list them.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for kind in Plane::ALL.iter().flat_map(|plane| plane.kinds()) {
            if !names.contains(&kind.name) {
                names.push(kind.name);
            }
        }
        names
    }

    /// What there is to say of a kind by its name and, if one was given, its plane.
    pub fn find(name: &str, plane: Option<Plane>) -> Result<(Plane, &'static Kind), UnknownKind> {
        let mut planes = Plane::ALL.iter().copied();
        let found = match plane {
            Some(plane) => plane.kind(name).map(|kind| (plane, kind)),
            None => planes.find_map(|plane| plane.kind(name).map(|kind| (plane, kind))),
        };
        found.ok_or_else(|| {
            let name = name.to_owned();
            match plane {
                Some(plane) => {
                    let known: Vec<&str> = plane.kinds().iter().map(|kind| kind.name).collect();
                    let hint = suggest::hint(&name, &known);
                    UnknownKind::NotOf { plane, name, hint }
                }
                None => {
                    let hint = suggest::hint(&name, &FaultKind::names());
                    UnknownKind::Nowhere { name, hint }
                }
            }
        })
    }

    /// What there is to say of its kind.
    pub fn info(&self) -> &'static Kind {
        let plane = self.plane();
        #[expect(clippy::expect_used, reason = "a test compares tables and samples")]
        plane.kind(self.name()).expect("every kind stands in the table of its plane")
    }

    /// The same kind with nothing but the parameters that it must have.
    pub fn plainest(&self) -> FaultKind {
        let Ok(serde_json::Value::Object(mut fields)) = serde_json::to_value(self) else {
            return self.clone();
        };
        for key in self.info().keys.iter().filter(|key| !key.required()) {
            fields.remove(key.name);
        }
        serde_json::from_value(fields.into()).unwrap_or_else(|_| self.clone())
    }

    /// Whether its plane must be written beside its name.
    fn needs_plane(&self) -> bool {
        FaultKind::find(self.name(), None).is_ok_and(|(plane, _)| plane != self.plane())
    }
}

#[derive(Serialize)]
struct WithPlane<'a> {
    #[serde(flatten, serialize_with = "write_plainly")]
    kind: &'a FaultKind,
    plane: Plane,
}

fn write_plainly<S: Serializer>(kind: &&FaultKind, serializer: S) -> Result<S::Ok, S::Error> {
    kind.write(serializer)
}

impl Serialize for FaultKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.needs_plane() {
            WithPlane { kind: self, plane: self.plane() }.serialize(serializer)
        } else {
            self.write(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for FaultKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FaultKind, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let plane = match fields.remove("plane") {
            None => None,
            Some(written) => {
                let plane = written.as_str().and_then(Plane::named);
                Some(plane.ok_or_else(|| {
                    let hint = suggest::hint(written.as_str().unwrap_or_default(), Plane::NAMES);
                    D::Error::custom(format!("unknown plane {written}; {hint}"))
                })?)
            }
        };
        let name = fields.get("kind").ok_or_else(|| D::Error::missing_field("kind"))?;
        let name = name.as_str().ok_or_else(|| D::Error::custom("`kind` must be a string"))?;
        let (plane, _) = FaultKind::find(name, plane).map_err(D::Error::custom)?;
        plane.read(serde_json::Value::Object(fields)).map_err(D::Error::custom)
    }
}

/// For fields that are left out when they are false.
pub(super) fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_table_has_the_kinds_and_parameters_of_its_plane() {
        let mut told = Vec::new();
        for plane in Plane::ALL {
            told.extend(plane.kinds().iter().map(|kind| (*plane, kind.name)));
        }
        let samples = FaultKind::samples();
        let real: Vec<_> = samples.iter().map(|kind| (kind.plane(), kind.name())).collect();
        assert_eq!(told, real);
        for sample in samples {
            let json = serde_json::to_value(&sample).unwrap();
            let written = json.as_object().unwrap();
            assert_eq!(written["kind"], sample.name());
            let fields: BTreeSet<&str> = written.keys().map(String::as_str).collect();
            let mut known: BTreeSet<&str> = sample.info().keys.iter().map(|key| key.name).collect();
            known.insert("kind");
            known.extend(sample.needs_plane().then_some("plane"));
            assert_eq!(fields, known, "{} {}", sample.plane(), sample.name());
            assert_eq!(serde_json::from_value::<FaultKind>(json).unwrap(), sample);
            assert_eq!(sample.objections(), [], "{sample:?}");
        }
    }

    #[test]
    fn what_is_required_is_required_and_the_rest_is_not() {
        for sample in FaultKind::samples() {
            let full = serde_json::to_value(&sample).unwrap();
            for key in sample.info().keys {
                let mut without = full.clone();
                without.as_object_mut().unwrap().remove(key.name);
                let read = serde_json::from_value::<FaultKind>(without);
                assert_eq!(read.is_err(), key.required(), "{} {}", sample.name(), key.name);
            }
        }
    }

    #[test]
    fn a_name_means_the_first_plane_that_has_it_unless_one_is_named() {
        let read = |text: &str| serde_json::from_str::<FaultKind>(text);
        assert_eq!(read(r#"{"kind": "hold"}"#).unwrap().plane(), Plane::Link);
        let carried = read(r#"{"kind": "hold", "plane": "carrier"}"#).unwrap();
        assert_eq!(carried.plane(), Plane::Carrier);
        assert_eq!(read(r#"{"kind": "kill", "plane": "process"}"#).unwrap().name(), "kill");
        for (text, wanted) in [
            (r#"{"kind": "hodl"}"#, "unknown kind `hodl`; did you mean `hold`?"),
            (r#"{"kind": "fin", "plane": "carrier"}"#, "the carrier plane has no kind `fin`"),
            (r#"{"kind": "hold", "plane": "carier"}"#, "did you mean `carrier`?"),
            (r#"{"kind": "hold", "latency_ms": 1}"#, "unknown field `latency_ms`"),
            (r#"{"latency_ms": 1}"#, "missing field `kind`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
