//! Changes of membership: who belongs to the cluster.
//!
//! What can be done at a moment depends on what was done before and on what the nodes say of it, so a state
//! machine of the system under test chooses the node (and for `change` also what to do) when the fault starts.
//! The history has what it chose.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Lasts, PlaneFault, Subject, is_false};
use crate::spec::keys::{Key, Shape, key};

/// What happens to the membership of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MembershipFault {
    /// Whatever the state machine finds possible.
    Change {
        /// Whether the cluster may be left without a majority.
        #[serde(default, skip_serializing_if = "is_false")]
        allow_unsafe: bool,
    },
    /// A node that does not belong to the cluster joins it.
    Join,
    /// A member leaves in order.
    Leave {
        /// Whether the cluster may be left without a majority.
        #[serde(default, skip_serializing_if = "is_false")]
        allow_unsafe: bool,
    },
    /// The others forget a member, which may not be asked.
    Forget {
        /// Whether the cluster may be left without a majority.
        #[serde(default, skip_serializing_if = "is_false")]
        allow_unsafe: bool,
    },
}

const ALLOW_UNSAFE: Key = key(
    "allow_unsafe",
    Shape::Boolean,
    "false",
    "`change`, `leave`, `forget`: also where fewer than a majority of the nodes, or of the members that are up, would be left.",
);

const fn membership(name: &'static str, meaning: &'static str) -> Kind {
    Kind::new(name, Subject::Cluster, Lasts::Away, meaning)
}

impl PlaneFault for MembershipFault {
    const KINDS: &'static [Kind] = &[
        membership("change", "A join, leave or forget that the state machine finds possible.")
            .with(&[ALLOW_UNSAFE]),
        membership("join", "A node that is no member joins the cluster."),
        membership("leave", "A member leaves in order; it keeps running with its data.")
            .with(&[ALLOW_UNSAFE]),
        membership("forget", "The others forget a member; it keeps running with its data.")
            .with(&[ALLOW_UNSAFE]),
    ];

    fn name(&self) -> &'static str {
        match self {
            MembershipFault::Change { .. } => "change",
            MembershipFault::Join => "join",
            MembershipFault::Leave { .. } => "leave",
            MembershipFault::Forget { .. } => "forget",
        }
    }

    fn samples() -> Vec<MembershipFault> {
        vec![
            MembershipFault::Change { allow_unsafe: true },
            MembershipFault::Join,
            MembershipFault::Leave { allow_unsafe: true },
            MembershipFault::Forget { allow_unsafe: true },
        ]
    }
}
