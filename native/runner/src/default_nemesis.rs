//! What a run injects when its spec chooses no faults: it is settled before anything is drawn, and said.
//!
//! The packages are written into the spec, and so into the `spec.toml` of the run: a replay, and whoever runs that file
//! again, has a plain choice and nothing to settle.

use fuzz_dist_core::Value;
use fuzz_dist_core::fault::{BoundaryEdges, FaultKind, FaultSchedule};
use fuzz_dist_core::spec::Spec;
use fuzz_dist_schedule::PackageError;
use fuzz_dist_schedule::packages::default_mix;

use crate::nemesis::planes;
use crate::recorder::{Recorder, map, strings};
use crate::request::RunError;

/// The function of the record in the history.
pub(crate) const RECORD: &str = "default-nemesis";

/// What was chosen for a spec that chose nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// For people: what, that it is the default, and how to choose.
    pub text: String,
    packages: Vec<String>,
}

impl Notice {
    /// Puts it into the history, for the results.
    pub(crate) fn record(&self, recorder: &Recorder) -> Result<(), RunError> {
        let notice = Value::str(self.text.as_str());
        let value = map([("packages", strings(&self.packages)), ("notice", notice)]);
        recorder.observer(recorder.now_ns(), RECORD, None, value)
    }
}

/// Gives a spec that chooses no faults the default mix. One whose faults are given by a schedule has chosen.
///
/// # Errors
/// When a boundary of the spec is none.
pub fn settle(
    spec: &mut Spec,
    schedule: Option<&FaultSchedule>,
    mined: &[BoundaryEdges],
) -> Result<Option<Notice>, RunError> {
    if spec.nemesis.is_chosen() || schedule.is_some() {
        spec.nemesis.packages.get_or_insert_default();
        return Ok(None);
    }
    let available = |kind: &FaultKind| planes::availability(kind, Some(spec));
    let mix = default_mix(spec, mined, &available)
        .map_err(|error| RunError::Input(format!("nemesis.boundaries: {error}")))?;
    let mut text = match mix.packages.as_slice() {
        [] => "the default mix of faults is empty: no faults are injected".to_owned(),
        packages => {
            format!("faults are the default: a rotating mix of {}", packages.join(", "))
        }
    };
    text += &left_out(&mix.left_out);
    text += "; choose with `packages` or `faults` under [nemesis] or with --nemesis (`none`: no faults)";
    spec.nemesis.packages = Some(mix.packages.clone());
    Ok(Some(Notice { text, packages: mix.packages }))
}

/// Why packages are not there; those that the run is too short for together.
fn left_out(errors: &[PackageError]) -> String {
    let mut text = String::new();
    let (mut too_long, mut room_s) = (Vec::new(), 0.0);
    for error in errors {
        match error {
            PackageError::DoesNotFit { written, have_s } => {
                too_long.push(written.as_str());
                room_s = *have_s;
            }
            other => text += &format!("; {other}"),
        }
    }
    if !too_long.is_empty() {
        let names = too_long.join(", ");
        text += &format!(
            "; no fault of {names} is short enough for the {room_s:.1} s that this run has for faults (time_limit_s)"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_once() {
        let too_long = |name: &str| PackageError::DoesNotFit { written: name.into(), have_s: 0.9 };
        let too_few = PackageError::TooFewNodes { written: "packet".into(), nodes: 1 };
        let told = left_out(&[too_long("partition"), too_few, too_long("pause")]);
        let wanted = "; `packet` needs more than 1 nodes; no fault of partition, pause is short enough for the 0.9 s \
                      that this run has for faults (time_limit_s)";
        assert_eq!(told, wanted);
        assert_eq!(left_out(&[]), "");
    }
}
