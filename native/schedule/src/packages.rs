//! Packages: ready sets of faults that belong together, as in Jepsen's combined nemesis.
//!
//! A package says which faults it has for a number of nodes, on which targets, and what heals what it leaves
//! (plots show it in the colour of [`fuzz_dist_core::fault::package_colour`]). `nemesis.packages` names them, with a role behind a colon (`kill:storage`) to
//! keep them there; several are mixed in eras ([`mix`]). Everything is drawn into the schedule, so a replay
//! needs no package.

mod clock;
mod default;
mod file_corruption;
mod kill;
mod membership;
mod mix;
mod packet;
mod partition;
mod pause;
mod vm;

pub use default::{DEFAULT, DefaultMix, default_mix, planes};
pub use mix::mix;

use fuzz_dist_core::fault::{Availability, FaultKind, Lasts, Pattern, Target};
use fuzz_dist_core::seed::{Seed, Stream};
use fuzz_dist_core::spec::{FaultSpec, suggest};

use crate::target::{Field, TargetError};

/// One package.
#[derive(Debug)]
pub struct Package {
    /// As it is named in specs and flags.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
    /// What is done after its last fault, beyond the heal of each.
    pub final_healing: &'static str,
    /// Whether its faults also flap and overlap: not those that cannot be healed.
    pub patterns: bool,
    /// Whether it is about links, and so can be kept to those between two roles.
    pub links: bool,
    /// Its faults, with parameters drawn from the stream; asked again for each era.
    faults: fn(&Cast, &mut Stream) -> Vec<FaultSpec>,
}

/// Every package.
pub const ALL: [&Package; 8] = [
    &partition::PACKAGE,
    &packet::PACKAGE,
    &kill::PACKAGE,
    &pause::PACKAGE,
    &clock::PACKAGE,
    &file_corruption::PACKAGE,
    &membership::PACKAGE,
    &vm::PACKAGE,
];

/// A fault is single so many times as often as it flaps, and as often as it overlaps.
const SINGLE_WEIGHT: u32 = 3;

/// The word for every package that can be had.
pub const EVERY: &str = "all";

/// Whom a package has before it.
#[derive(Debug, Clone)]
pub struct Cast {
    /// How many nodes there are to choose from.
    pub nodes: usize,
    /// How many nodes the cluster has.
    pub cluster: usize,
    /// Whether they are links between two roles.
    pub between: bool,
}

impl Cast {
    /// Those of these targets that a fault of nodes or links finds enough nodes for.
    fn targets(&self, targets: &[(Target, usize)]) -> Vec<Target> {
        let fits = |target: &Target, needed: usize| {
            needed <= self.nodes
                && !(self.between && matches!(target, Target::Ring | Target::Bridge))
        };
        let fitting = targets.iter().filter(|(target, needed)| fits(target, *needed));
        fitting.map(|(target, _)| target.clone()).collect()
    }

    /// One node, fewer than half, the primaries, all: whom processes are killed and paused on.
    fn nodes(&self) -> Vec<Target> {
        self.targets(&[
            (Target::One, 1),
            (Target::Minority, 3),
            (Target::Primaries, 1),
            (Target::All, 1),
        ])
    }
}

/// Why a package cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PackageError {
    /// No package has this name.
    #[error("unknown package `{name}`{hint}")]
    Unknown {
        /// As it was written.
        name: String,
        /// What would be right.
        hint: String,
    },
    /// Its role.
    #[error("`{written}`: {error}")]
    Scope {
        /// As it was written.
        written: String,
        /// What is wrong.
        error: TargetError,
    },
    /// Nodes have no links between two roles.
    #[error("`{written}`: `{name}` happens to nodes: name one role")]
    NotLinks {
        /// As it was written.
        written: String,
        /// The package.
        name: &'static str,
    },
    /// Twice the same.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// None of its faults can be had.
    #[error(
        "`{written}` has no fault that can be had here: {reason}; `fuzz_dist doctor` lists what can"
    )]
    Unavailable {
        /// As it was written.
        written: String,
        /// Why, of the first of them.
        reason: String,
    },
    /// None of its faults has enough nodes.
    #[error("`{written}` needs more than {nodes} nodes")]
    TooFewNodes {
        /// As it was written.
        written: String,
        /// How many there are.
        nodes: usize,
    },
    /// None of its faults is short enough.
    #[error(
        "no fault of `{written}` is short enough for the {have_s:.1} s between the warm-up and the end of the \
         main phase; raise time_limit_s, or lower the boundary (cluster.net_ticktime_s for net-tick)"
    )]
    DoesNotFit {
        /// As it was written.
        written: String,
        /// The time there is.
        have_s: f64,
    },
    /// Nothing at all.
    #[error(
        "`all`: no package has a fault that can be had here; `fuzz_dist doctor` lists what can"
    )]
    Nothing,
}

/// A package as a spec names it.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// As it is written, `kill:storage`; the name in histories.
    pub written: String,
    /// Which.
    pub package: &'static Package,
    /// The role or roles.
    pub scope: Option<String>,
    /// Whom it has before it.
    pub cast: Cast,
}

impl Chosen {
    /// Its faults that can be had, with parameters drawn from the stream.
    pub fn faults(
        &self,
        stream: &mut Stream,
        available: &dyn Fn(&FaultKind) -> Availability,
    ) -> Vec<FaultSpec> {
        let mut faults = (self.package.faults)(&self.cast, stream);
        faults.retain(|fault| {
            !fault.targets.is_empty() && available(&fault.kind).unavailable().is_none()
        });
        for fault in &mut faults {
            fault.scope.clone_from(&self.scope);
        }
        if self.package.patterns { with_patterns(faults) } else { faults }
    }

    /// Why it has none, if it has none.
    fn objection(&self, available: &dyn Fn(&FaultKind) -> Availability) -> Option<PackageError> {
        let mut stream = Seed(0).stream("package-check", 0);
        let all = (self.package.faults)(&self.cast, &mut stream);
        let placed: Vec<&FaultSpec> = all.iter().filter(|f| !f.targets.is_empty()).collect();
        let Some(first) = placed.first() else {
            let nodes = self.cast.nodes;
            return Some(PackageError::TooFewNodes { written: self.written.clone(), nodes });
        };
        if placed.iter().any(|fault| available(&fault.kind).unavailable().is_none()) {
            return None;
        }
        let reason = match available(&first.kind) {
            Availability::Unavailable(reason) => format!("{}: {reason}", first.kind.name()),
            _ => String::new(),
        };
        Some(PackageError::Unavailable { written: self.written.clone(), reason })
    }
}

/// Each of them single most of the time, and now and then flapping and overlapping, as far as they last.
fn with_patterns(faults: Vec<FaultSpec>) -> Vec<FaultSpec> {
    let mut all = Vec::new();
    for fault in faults {
        let weight = fault.weight;
        if !matches!(fault.kind.info().lasts, Lasts::Instant) {
            for pattern in [Pattern::Flap, Pattern::Overlap] {
                all.push(FaultSpec { pattern: Some(pattern), ..fault.clone() });
            }
        }
        all.push(FaultSpec { weight: weight * SINGLE_WEIGHT, ..fault });
    }
    all
}

/// The package of that name.
pub fn named(name: &str) -> Option<&'static Package> {
    ALL.into_iter().find(|package| package.name == name)
}

/// Whether a word, without the role behind its colon, is one that `nemesis.packages` knows.
pub fn is_known(word: &str) -> bool {
    let name = word.split_once(':').map_or(word, |(name, _)| name);
    name == EVERY || named(name).is_some()
}

/// What the words of a spec mean: `all` is every package that can be had, others must be.
pub fn chosen(
    words: &[String],
    field: &Field,
    available: &dyn Fn(&FaultKind) -> Availability,
) -> Result<Vec<Chosen>, PackageError> {
    let mut all: Vec<Chosen> = Vec::new();
    for word in words {
        let (name, scope) = match word.split_once(':') {
            Some((name, scope)) => (name, Some(scope)),
            None => (word.as_str(), None),
        };
        if name == EVERY {
            // Those that the spec names besides stay as they are.
            for package in ALL {
                let written = match scope {
                    Some(scope) => format!("{}:{scope}", package.name),
                    None => package.name.to_owned(),
                };
                let named = all.iter().any(|chosen| chosen.written == written);
                let one = choose(written, package, scope, field);
                // A role that there is not is wrong for each of them.
                if let Err(PackageError::Scope { error: TargetError::UnknownRole { .. }, .. }) =
                    &one
                {
                    one?;
                } else if let Ok(one) = one
                    && !named
                    && one.objection(available).is_none()
                {
                    all.push(one);
                }
            }
            if all.is_empty() {
                return Err(PackageError::Nothing);
            }
            continue;
        }
        let package = named(name).ok_or_else(|| {
            let known = ALL.iter().map(|package| package.name).chain([EVERY]);
            PackageError::Unknown { name: name.to_owned(), hint: suggest::clause(name, known) }
        })?;
        let one = choose(word.clone(), package, scope, field)?;
        if all.iter().any(|other| other.written == *word) {
            return Err(PackageError::Twice(word.clone()));
        }
        if let Some(objection) = one.objection(available) {
            return Err(objection);
        }
        all.push(one);
    }
    Ok(all)
}

fn choose(
    written: String,
    package: &'static Package,
    scope: Option<&str>,
    field: &Field,
) -> Result<Chosen, PackageError> {
    let cluster = field.nodes.len();
    let mut cast = Cast { nodes: cluster, cluster, between: false };
    if let Some(scope) = scope {
        let refused = |error| PackageError::Scope { written: written.clone(), error };
        let roles: Vec<&str> = scope.split('-').collect();
        for role in &roles {
            let members = field.of_role(role).map_err(refused)?;
            if *role == roles[0] {
                cast.nodes = members.len();
            }
        }
        cast.between = roles.len() > 1;
        if cast.between && !package.links {
            return Err(PackageError::NotLinks { written, name: package.name });
        }
        if roles.len() > 2 {
            let problem = "links are between two roles".to_owned();
            return Err(refused(TargetError::Scope { scope: scope.to_owned(), problem }));
        }
    }
    Ok(Chosen { written, package, scope: scope.map(str::to_owned), cast })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::fault::{Plane, Subject};
    use fuzz_dist_core::spec::Roles;

    fn field(count: usize) -> Field {
        let nodes: Vec<String> = (1..=count).map(|i| format!("n{i}")).collect();
        let roles = [("api".to_owned(), nodes[..1].to_vec()), ("db".to_owned(), nodes.clone())];
        Field { nodes, roles: Roles::from(roles) }
    }

    fn only_links(kind: &FaultKind) -> Availability {
        match kind.plane() {
            Plane::Link => Availability::Real,
            _ => Availability::not_built(),
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn every_package_has_a_colour_of_its_own() {
        let colour =
            |package: &Package| fuzz_dist_core::fault::package_colour(package.name).unwrap();
        let colours: std::collections::BTreeSet<&str> = ALL.into_iter().map(colour).collect();
        assert_eq!(colours.len(), ALL.len());
    }

    #[test]
    fn every_package_has_faults_whose_parameters_and_targets_are_right() {
        for count in 1..8 {
            for chosen in chosen(&words(&["all"]), &field(count), &|_| Availability::Real).unwrap()
            {
                for index in 0..20 {
                    let mut stream = Seed(3).stream("package", index);
                    let faults = chosen.faults(&mut stream, &|_| Availability::Real);
                    assert!(!faults.is_empty(), "{} of {count}", chosen.written);
                    for fault in faults {
                        assert_eq!(fault.kind.objections(), [], "{:?}", fault.kind);
                        let links = fault.kind.info().subject == Subject::Links;
                        assert_eq!(links, chosen.package.links, "{:?}", fault.kind);
                        for target in &fault.targets {
                            let aim = crate::target::Aim::of_spec(&fault, target);
                            if !aim.is_late() {
                                crate::target::resolve(&aim, &field(count), None, &mut stream)
                                    .unwrap();
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn all_is_what_can_be_had_and_names_insist() {
        let names = |all: Vec<Chosen>| all.into_iter().map(|c| c.written).collect::<Vec<_>>();
        let had = chosen(&words(&["all"]), &field(3), &only_links).unwrap();
        assert_eq!(names(had), ["partition", "packet"]);
        let error = |words_: &[&str], count: usize| {
            chosen(&words(words_), &field(count), &only_links).unwrap_err().to_string()
        };
        assert!(error(&["kill"], 3).contains("has no fault that can be had here: kill: not built"));
        assert!(error(&["kil"], 3).contains("did you mean `kill`?"));
        assert!(error(&["partition"], 1).contains("needs more than 1 nodes"));
        assert!(error(&["partition:apy"], 3).contains("unknown role `apy`; did you mean `api`?"));
        assert!(error(&["all:apy"], 3).contains("unknown role `apy`"));
        assert!(error(&["kill:api-db"], 3).contains("name one role"));
        assert!(error(&["partition", "partition"], 3).contains("is named twice"));
        let two = chosen(&words(&["partition:api-db", "partition:db"]), &field(3), &only_links);
        assert_eq!(names(two.unwrap()), ["partition:api-db", "partition:db"]);
    }
}
