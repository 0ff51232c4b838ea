//! Boundaries: durations at which the BEAM changes its mind, with what is certain on either side.
//!
//! With tick time T and intensity I a silent peer is certainly up before T - 2T/I and certainly down after
//! T + T/I, counted from the cut. The documented lower bound T - T/I does not hold: `dist_util` counts whole
//! ticks from the last received data, and a peer that wrote anything since its last tick skips the next.
//! A slack of 100 ms stands for schedulers and sockets on either side. Other boundaries are single values
//! (`net-setup`, `op-timeout`, those of the user) with the same slack.

use std::collections::BTreeMap;

use fuzz_dist_core::fault::{BoundaryEdges, Zone};
use fuzz_dist_core::spec::{MINED_PREFIX, Spec, suggest};

/// What loaded schedulers may add to or take from a boundary.
const SLACK_MS: f64 = 100.0;
/// Connection set-up of distributed Erlang: kernel's `net_setuptime`, 7 s unless changed.
pub const NET_SETUP_MS_DEFAULT: f64 = 7_000.0;

/// Boundaries by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Boundaries {
    edges: Vec<BoundaryEdges>,
}

/// What a live node says of itself (`{boundaries, Id}` of the agent protocol).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveBoundaries {
    /// `net_kernel:get_net_ticktime/0` (s).
    pub net_ticktime_s: f64,
    /// `net_tickintensity`.
    pub net_tickintensity: u32,
    /// `net_setuptime` (ms).
    pub net_setuptime_ms: f64,
}

/// Why there is no such boundary, or no such zone of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BoundaryError {
    /// No boundary has this name.
    #[error("unknown boundary `{name}`{hint}")]
    Unknown {
        /// The name.
        name: String,
        /// What would be right.
        hint: String,
    },
    /// Nothing is shorter than certainly below.
    #[error(
        "nothing is certainly below `{name}`: its lower edge is {edge_ms:.0} ms ({source_text}); raise \
         net_tickintensity or the boundary itself, or leave out the zone `certainly-below`"
    )]
    NothingBelow {
        /// The boundary.
        name: String,
        /// Its lower edge.
        edge_ms: f64,
        /// Where the edges come from.
        source_text: String,
    },
    /// A boundary is not a duration.
    #[error("boundary `{name}` is {value} ms: it must be more than 0 and finite")]
    NotADuration {
        /// The boundary.
        name: String,
        /// What was given.
        value: f64,
    },
}

impl Boundaries {
    /// As the spec says that nodes will be started; `mined` are those of [`point_edges`].
    pub fn from_spec(spec: &Spec, mined: &[BoundaryEdges]) -> Result<Boundaries, BoundaryError> {
        let planned = LiveBoundaries {
            net_ticktime_s: f64::from(spec.cluster.net_ticktime_s),
            net_tickintensity: spec.cluster.net_tickintensity,
            net_setuptime_ms: NET_SETUP_MS_DEFAULT,
        };
        let own = &spec.nemesis.boundaries.own;
        Boundaries::new(planned, "spec", spec.op_timeout_ms, own).map(|known| known.with(mined))
    }

    /// As a live node says; `source` is for reports: `live node n1`.
    pub fn from_live(
        live: LiveBoundaries,
        source: &str,
        spec: &Spec,
        mined: &[BoundaryEdges],
    ) -> Result<Boundaries, BoundaryError> {
        let own = &spec.nemesis.boundaries.own;
        Boundaries::new(live, source, spec.op_timeout_ms, own).map(|known| known.with(mined))
    }

    fn with(mut self, mined: &[BoundaryEdges]) -> Boundaries {
        self.edges.extend_from_slice(mined);
        self
    }

    /// The names of those that were mined.
    pub fn mined(&self) -> impl Iterator<Item = &str> {
        let names = self.edges.iter().map(|edges| edges.name.as_str());
        names.filter(|name| name.starts_with(MINED_PREFIX))
    }

    /// From values; a user's boundary of a known name replaces it.
    pub fn new(
        values: LiveBoundaries,
        source: &str,
        op_timeout_ms: u64,
        user: &BTreeMap<String, f64>,
    ) -> Result<Boundaries, BoundaryError> {
        let mut edges = vec![
            net_tick(values.net_ticktime_s, values.net_tickintensity, source)?,
            point("net-setup", values.net_setuptime_ms, source)?,
            point("op-timeout", op_timeout_ms as f64, "spec")?,
        ];
        for (name, value_ms) in user {
            let edge = point(name, *value_ms, "spec")?;
            edges.retain(|known| known.name != edge.name);
            edges.push(edge);
        }
        Ok(Boundaries { edges })
    }

    /// From edges, as a stored schedule has them.
    pub fn from_edges(edges: Vec<BoundaryEdges>) -> Boundaries {
        Boundaries { edges }
    }

    /// All of them.
    pub fn edges(&self) -> &[BoundaryEdges] {
        &self.edges
    }

    /// The boundary of that name.
    pub fn get(&self, name: &str) -> Result<&BoundaryEdges, BoundaryError> {
        self.edges.iter().find(|edges| edges.name == name).ok_or_else(|| BoundaryError::Unknown {
            name: name.to_owned(),
            hint: suggest::clause(name, self.edges.iter().map(|edges| edges.name.as_str())),
        })
    }

    /// The durations (ms, shortest and longest) that lie in a zone of a boundary; the ends are well inside.
    pub fn range_ms(&self, name: &str, zone: Zone) -> Result<(f64, f64), BoundaryError> {
        let edges = self.get(name)?;
        let (below, above) = (edges.certainly_below_ms, edges.certainly_above_ms);
        match zone {
            Zone::CertainlyBelow if below < 1.0 => Err(BoundaryError::NothingBelow {
                name: name.to_owned(),
                edge_ms: below,
                source_text: edges.source.clone(),
            }),
            Zone::CertainlyBelow => Ok((1.0_f64.max(below / 5.0), below)),
            Zone::Inside => Ok((below.max(1.0), above)),
            Zone::CertainlyAbove => Ok((above, above * 2.0)),
        }
    }

    /// The zone that a duration lies in.
    pub fn zone(&self, name: &str, duration_ms: f64) -> Result<Zone, BoundaryError> {
        let edges = self.get(name)?;
        Ok(if duration_ms <= edges.certainly_below_ms {
            Zone::CertainlyBelow
        } else if duration_ms < edges.certainly_above_ms {
            Zone::Inside
        } else {
            Zone::CertainlyAbove
        })
    }
}

/// The edges of a boundary that is a single value: `mined-5000`, 5000.0, and where it was found.
pub fn point_edges(name: &str, value_ms: f64, source: &str) -> BoundaryEdges {
    BoundaryEdges {
        name: name.to_owned(),
        certainly_below_ms: value_ms - SLACK_MS,
        certainly_above_ms: value_ms + SLACK_MS,
        source: source.to_owned(),
    }
}

fn checked(name: &str, value: f64) -> Result<f64, BoundaryError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(BoundaryError::NotADuration { name: name.to_owned(), value })
    }
}

fn net_tick(ticktime_s: f64, intensity: u32, source: &str) -> Result<BoundaryEdges, BoundaryError> {
    let ticktime_ms = checked("net-tick", ticktime_s * 1000.0)?;
    let interval_ms = checked("net-tick", ticktime_ms / f64::from(intensity))?;
    Ok(BoundaryEdges {
        name: "net-tick".into(),
        certainly_below_ms: ticktime_ms - 2.0 * interval_ms - SLACK_MS,
        certainly_above_ms: ticktime_ms + interval_ms + SLACK_MS,
        source: format!("{source}: net_ticktime {ticktime_s} s, net_tickintensity {intensity}"),
    })
}

fn point(name: &str, value_ms: f64, source: &str) -> Result<BoundaryEdges, BoundaryError> {
    Ok(point_edges(name, checked(name, value_ms)?, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundaries(ticktime_s: f64, intensity: u32) -> Boundaries {
        let live = LiveBoundaries {
            net_ticktime_s: ticktime_s,
            net_tickintensity: intensity,
            net_setuptime_ms: 7_000.0,
        };
        let user = BTreeMap::from([("call".to_owned(), 5_000.0)]);
        Boundaries::new(live, "live node n1", 3_000, &user).unwrap()
    }

    #[test]
    fn the_edges_of_the_tick_are_those_that_were_measured() {
        let boundaries = boundaries(4.0, 4);
        let tick = boundaries.get("net-tick").unwrap();
        assert_eq!((tick.certainly_below_ms, tick.certainly_above_ms), (1_900.0, 5_100.0));
        // Down at 2.58 s was provoked, 4.984 s was the longest seen: neither is certain.
        assert_eq!(boundaries.zone("net-tick", 2_580.0), Ok(Zone::Inside));
        assert_eq!(boundaries.zone("net-tick", 4_984.0), Ok(Zone::Inside));
        assert_eq!(boundaries.zone("call", 5_101.0), Ok(Zone::CertainlyAbove));
    }

    #[test]
    fn an_empty_zone_and_an_unknown_name_are_told() {
        let error = boundaries(4.0, 2).range_ms("net-tick", Zone::CertainlyBelow).unwrap_err();
        assert!(error.to_string().contains("nothing is certainly below `net-tick`"), "{error}");
        let error = boundaries(4.0, 4).get("net-tik").unwrap_err();
        assert!(error.to_string().contains("did you mean `net-tick`"), "{error}");
        let zero = BTreeMap::from([("x".to_owned(), 0.0)]);
        let live =
            LiveBoundaries { net_ticktime_s: 4.0, net_tickintensity: 0, net_setuptime_ms: 7_000.0 };
        assert!(Boundaries::new(live, "", 1, &zero).is_err());
    }
}
