//! What is injected when nobody has chosen: a rotating mix of every package that needs nothing of the system.
//!
//! As in Bufstream's Jepsen suite the default of a test is faults and not their absence: a run without any tells
//! least of all. Left out are packages that need something prepared or known of the system (clocks and files a preloaded
//! library, files a system that bears their loss, membership its callbacks), those that a cluster of this size does not
//! have, and those none of whose faults the main phase has room for.

use std::collections::BTreeSet;

use fuzz_dist_core::fault::{Availability, BoundaryEdges, FaultKind, Plane};
use fuzz_dist_core::seed::Seed;
use fuzz_dist_core::spec::Spec;

use super::{ALL, Cast, EVERY, Package, PackageError, choose, kill, mix, named, packet};
use super::{partition, pause, vm};
use crate::boundaries::{Boundaries, BoundaryError};
use crate::faults::Stage;
use crate::target::Field;

/// The word for this mix on the command line.
pub const DEFAULT: &str = "default";

/// Those that need nothing.
const CANDIDATES: [&Package; 5] =
    [&partition::PACKAGE, &packet::PACKAGE, &kill::PACKAGE, &pause::PACKAGE, &vm::PACKAGE];

/// The packages of a spec that names no faults.
#[derive(Debug, Clone, PartialEq)]
pub struct DefaultMix {
    /// As `nemesis.packages` would name them.
    pub packages: Vec<String>,
    /// Those that this cluster or this run cannot have, and why.
    pub left_out: Vec<PackageError>,
}

/// Which packages a spec that names no faults gets.
///
/// # Errors
/// When the spec has a boundary that is none.
pub fn default_mix(
    spec: &Spec,
    mined: &[BoundaryEdges],
    available: &dyn Fn(&FaultKind) -> Availability,
) -> Result<DefaultMix, BoundaryError> {
    let boundaries = Boundaries::from_spec(spec, mined)?;
    let field = Field::of(spec);
    let stage = Stage::of_spec(spec, &boundaries, &field, Seed(0), available);
    let (mut packages, mut left_out) = (Vec::new(), Vec::new());
    for package in CANDIDATES {
        let fits =
            choose(package.name.to_owned(), package, None, &field).and_then(|chosen| match chosen
                .objection(available)
            {
                Some(objection) => Err(objection),
                None => mix::fits(chosen, &stage),
            });
        match fits {
            Ok(()) => packages.push(package.name.to_owned()),
            Err(error) => left_out.push(error),
        }
    }
    Ok(DefaultMix { packages, left_out })
}

/// The planes whose faults the packages of these words have.
pub fn planes(words: &[String]) -> BTreeSet<Plane> {
    let names = words.iter().map(|word| word.split_once(':').map_or(&**word, |(name, _)| name));
    let packages = names.flat_map(|name| match name {
        EVERY => ALL.to_vec(),
        name => named(name).into_iter().collect(),
    });
    // Of every size that has all of them; parameters do not matter.
    let cast = Cast { nodes: 5, cluster: 5, between: false };
    let mut stream = Seed(0).stream("package-check", 0);
    let faults = packages.flat_map(|package| (package.faults)(&cast, &mut stream));
    faults.map(|fault| fault.kind.plane()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use fuzz_dist_core::spec::Nodes;

    fn mix_of(nodes: u32, time_limit_s: f64) -> DefaultMix {
        let spec = Spec { nodes: Nodes::Count(nodes), time_limit_s, ..Spec::default() };
        default_mix(&spec, &[], &|_| Availability::Real).unwrap()
    }

    fn left_out(mix: &DefaultMix) -> String {
        mix.left_out.iter().map(PackageError::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn it_is_what_the_cluster_and_the_time_have_room_for() {
        let three = mix_of(3, 20.0);
        assert_eq!(three.packages, ["partition", "packet", "kill", "pause", "vm"]);
        assert_eq!(three.left_out, []);
        let one = mix_of(1, 20.0);
        assert_eq!(one.packages, ["kill", "pause", "vm"]);
        assert!(left_out(&one).contains("`partition` needs more than 1 nodes"), "{one:?}");
        // Nothing near a tick of a minute or a time-out of five seconds fits into nine tenths of a second.
        let short = mix_of(3, 1.95);
        assert_eq!(short.packages, ["packet", "kill", "vm"]);
        assert!(left_out(&short).contains("no fault of `partition` is short enough"), "{short:?}");
        // The warm-up alone takes a second.
        assert_eq!(mix_of(3, 0.5).packages, Vec::<String>::new());
    }

    #[test]
    fn it_has_no_package_without_a_fault_that_can_be_had() {
        let only_links = |kind: &FaultKind| match kind.plane() {
            Plane::Link => Availability::Real,
            _ => Availability::not_built(),
        };
        let mix = default_mix(&Spec::default(), &[], &only_links).unwrap();
        assert_eq!(mix.packages, ["partition", "packet"]);
        assert!(left_out(&mix).contains("`kill` has no fault that can be had here"), "{mix:?}");
    }

    #[test]
    fn packages_are_of_their_planes() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            planes(&words).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of(&["kill:storage", "pause"]), [Plane::Process]);
        assert!(of(&["file-corruption"]) == [Plane::Disk]);
        assert!([Plane::Clock, Plane::Disk, Plane::Link].iter().all(|p| of(&["all"]).contains(p)));
        assert_eq!(of(&[]), []);
    }
}
