//! Queues at cables: token buckets and the network emulator, as classes of an HTB below which each has its own.
//!
//! A queue stands where a packet leaves the bridge for the node that it goes to. The classifier of the HTB is the
//! priority that the rules give a packet ([`super::rules::Verdict::Class`]); what has none passes at once. So which
//! packets wait is changed in one transaction of nft, before a class goes and after it has come.
//!
//! A token bucket is for one link. The emulator is shared by all links of a fault that end at the same node, since
//! kernels from 6.16 on refuse two that duplicate in one tree.
//!
//! Limits: the virtual cables leave segmentation to the end, so that the emulator may lose, delay or double up to 64
//! KiB of TCP as one packet.

use std::collections::BTreeMap;

use fuzz_dist_core::fault::Distribution;
use serde_json::Value as Json;

use super::NetError;
use super::command::{run, tc};

/// What is done to packets that wait.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// So many bytes a second pass.
    Rate(u64),
    /// `sch_netem`.
    Emulate(Emulation),
}

/// What the emulator does to packets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Emulation {
    /// How long each waits (ms).
    pub latency_ms: u64,
    /// How far it may be from that (ms).
    pub jitter_ms: u64,
    /// How that is drawn.
    pub distribution: Distribution,
    /// How many are lost (%).
    pub loss_percent: f64,
    /// How many come twice (%).
    pub duplicate_percent: f64,
    /// How many overtake those before them (%).
    pub reorder_percent: f64,
    /// How many have a flipped bit (%).
    pub corrupt_percent: f64,
}

/// Faster than a virtual cable.
const UNLIMITED: &str = "10gbit";

/// A whole Ethernet frame fits, twice.
const BURST_BYTES_MIN: u64 = 3_200;

/// What may wait for a token bucket.
const QUEUE_BYTES_MIN: u64 = 64 << 10;

/// What may wait in the emulator.
const EMULATOR_PACKETS: u32 = 10_000;

impl Shape {
    /// As `tc qdisc add` takes it.
    pub fn arguments(&self) -> String {
        match self {
            Shape::Rate(bytes_per_s) => {
                let burst = (bytes_per_s / 100).max(BURST_BYTES_MIN);
                let limit = (bytes_per_s / 4).max(QUEUE_BYTES_MIN).max(2 * burst);
                format!("tbf rate {bytes_per_s}bps burst {burst} limit {limit}")
            }
            Shape::Emulate(emulation) => emulation.arguments(),
        }
    }
}

impl Emulation {
    fn arguments(&self) -> String {
        let mut text = format!("netem limit {EMULATOR_PACKETS}");
        if self.latency_ms > 0 || self.jitter_ms > 0 {
            text.push_str(&format!(" delay {}ms", self.latency_ms));
        }
        if self.jitter_ms > 0 {
            text.push_str(&format!(" {}ms", self.jitter_ms));
            match self.distribution {
                // What the emulator does when it is told nothing.
                Distribution::Uniform => {}
                Distribution::Normal => text.push_str(" distribution normal"),
                Distribution::Pareto => text.push_str(" distribution pareto"),
            }
        }
        for (word, percent) in [
            ("loss", self.loss_percent),
            ("duplicate", self.duplicate_percent),
            ("reorder", self.reorder_percent),
            ("corrupt", self.corrupt_percent),
        ] {
            if percent > 0.0 {
                text.push_str(&format!(" {word} {percent}%"));
            }
        }
        text
    }
}

/// The lines that give a cable its root.
pub fn root(cable: &str) -> String {
    format!("qdisc add dev {cable} root handle 1: htb")
}

/// The lines that add a class with its queue.
pub fn added(cable: &str, minor: u16, shape: &Shape) -> [String; 2] {
    let arguments = shape.arguments();
    [
        format!(
            "class add dev {cable} parent 1: classid 1:{minor:x} htb rate {UNLIMITED} quantum 60000"
        ),
        format!("qdisc add dev {cable} parent 1:{minor:x} handle {minor:x}: {arguments}"),
    ]
}

/// The line that lets what still waits for a token bucket leave at once.
fn opened(cable: &str, minor: u16) -> String {
    let rate = format!("rate {UNLIMITED} burst {} limit {}", 1 << 20, 64 << 20);
    format!("qdisc change dev {cable} parent 1:{minor:x} handle {minor:x}: tbf {rate}")
}

fn removed(cable: &str, minor: u16) -> String {
    format!("class del dev {cable} classid 1:{minor:x}")
}

/// What a queue has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// Packets that have left it.
    pub packets: u64,
    /// How often a packet had to wait for its tokens.
    pub overlimits: u64,
    /// Packets that it lost.
    pub drops: u64,
    /// Packets that wait now.
    pub waiting: u64,
}

#[derive(Debug, Clone)]
struct Class {
    cable: String,
    minor: u16,
    fault: u32,
    shape: Shape,
    /// No packet comes any more; it goes when it is empty.
    healed: bool,
}

/// All classes of a run.
#[derive(Debug, Default)]
pub struct Shaper {
    classes: Vec<Class>,
    last_minor: u16,
}

impl Shaper {
    /// Makes queues of one shape at cables; their minor numbers, in this order. If one cannot be made none is left.
    pub fn add(
        &mut self,
        fault: u32,
        cables: &[&str],
        shape: &Shape,
    ) -> Result<Vec<u16>, NetError> {
        self.collect()?;
        let mut minors = Vec::new();
        for cable in cables {
            let minor = self.free_minor();
            let mut lines = Vec::new();
            if !self.classes.iter().any(|class| class.cable == *cable) {
                lines.push(root(cable));
            }
            lines.extend(added(cable, minor, shape));
            let (cable, shape) = ((*cable).to_owned(), shape.clone());
            self.classes.push(Class { cable, minor, fault, shape, healed: false });
            if let Err(error) = tc(&lines) {
                self.remove(|class| class.fault == fault);
                return Err(error);
            }
            minors.push(minor);
        }
        Ok(minors)
    }

    fn free_minor(&mut self) -> u16 {
        loop {
            // 1 is the root's own; what is beyond 0xfff0 has meanings of its own.
            self.last_minor =
                if self.last_minor >= 0xffef { 0x10 } else { self.last_minor.max(0xf) + 1 };
            if !self.classes.iter().any(|class| class.minor == self.last_minor) {
                return self.last_minor;
            }
        }
    }

    /// Whether a fault has queues that are in use.
    pub fn has(&self, fault: u32) -> bool {
        self.classes.iter().any(|class| class.fault == fault && !class.healed)
    }

    /// Lets the queues of a fault, to which no rule leads any more, run empty; they go when they are.
    pub fn heal(&mut self, concerned: impl Fn(u32) -> bool) -> Result<(), NetError> {
        let mut lines = Vec::new();
        for class in self.classes.iter_mut().filter(|class| concerned(class.fault) && !class.healed)
        {
            class.healed = true;
            if matches!(class.shape, Shape::Rate(_)) {
                lines.push(opened(&class.cable, class.minor));
            }
        }
        tc(&lines)
    }

    /// Removes healed queues that are empty.
    pub fn collect(&mut self) -> Result<(), NetError> {
        if !self.classes.iter().any(|class| class.healed) {
            return Ok(());
        }
        let queues = self.read()?;
        self.remove(|class| {
            let queue = queues.get(&(class.cable.clone(), class.minor));
            class.healed && queue.is_none_or(|queue| queue.waiting == 0)
        });
        Ok(())
    }

    /// Removes all queues, with what waits in them.
    pub fn clear(&mut self) {
        self.remove(|_| true);
    }

    /// Removes classes, and the roots of cables that have none left.
    fn remove(&mut self, going: impl Fn(&Class) -> bool) {
        let (gone, left): (Vec<Class>, Vec<Class>) =
            std::mem::take(&mut self.classes).into_iter().partition(going);
        self.classes = left;
        for class in gone {
            let has_others = self.classes.iter().any(|other| other.cable == class.cable);
            let line = if has_others {
                removed(&class.cable, class.minor)
            } else {
                format!("qdisc del dev {} root", class.cable)
            };
            // One that was never made, or went with its root, is as good as removed.
            let _ = tc(&[line]);
        }
    }

    /// What the queues of a fault have done, by cable and minor number.
    pub fn read(&self) -> Result<BTreeMap<(String, u16), Queue>, NetError> {
        let mut all = BTreeMap::new();
        let mut cables: Vec<&str> = self.classes.iter().map(|class| class.cable.as_str()).collect();
        cables.sort_unstable();
        cables.dedup();
        for cable in cables {
            let command = format!("tc -s -j qdisc show dev {cable}");
            let text = run(&command)?;
            let queues = parse(&text).map_err(|reason| NetError::Command { command, reason })?;
            all.extend(queues.into_iter().map(|(minor, queue)| ((cable.to_owned(), minor), queue)));
        }
        Ok(all)
    }
}

/// Queues below the root, by the minor number that is their handle.
fn parse(text: &str) -> Result<BTreeMap<u16, Queue>, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let entries = json.as_array().ok_or("its answer lists nothing")?;
    let queue = |entry: &Json| {
        let handle = entry["handle"].as_str()?.strip_suffix(':')?;
        let minor = u16::from_str_radix(handle, 16).ok()?;
        let number = |key: &str| entry[key].as_u64().unwrap_or_default();
        let queue = Queue {
            packets: number("packets"),
            overlimits: number("overlimits"),
            drops: number("drops"),
            waiting: number("qlen").max(u64::from(number("backlog") > 0)),
        };
        (!entry["root"].as_bool().unwrap_or(false)).then_some((minor, queue))
    };
    Ok(entries.iter().filter_map(queue).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_bucket_lets_a_frame_pass_and_a_quarter_of_a_second_wait() {
        let slow = Shape::Rate(1_000).arguments();
        assert_eq!(slow, "tbf rate 1000bps burst 3200 limit 65536");
        let fast = Shape::Rate(100_000_000).arguments();
        assert_eq!(fast, "tbf rate 100000000bps burst 1000000 limit 25000000");
        let [class, queue] = added("fdx", 0x1a, &Shape::Rate(1_000));
        assert_eq!(class, "class add dev fdx parent 1: classid 1:1a htb rate 10gbit quantum 60000");
        assert_eq!(queue, format!("qdisc add dev fdx parent 1:1a handle 1a: {slow}"));
    }

    #[test]
    fn the_emulator_is_told_what_is_asked_for_and_no_more() {
        let told = |emulation: Emulation| Shape::Emulate(emulation).arguments();
        let none = Emulation::default();
        assert_eq!(
            told(Emulation { latency_ms: 50, ..none.clone() }),
            "netem limit 10000 delay 50ms"
        );
        assert_eq!(
            told(Emulation { latency_ms: 50, jitter_ms: 20, ..none.clone() }),
            "netem limit 10000 delay 50ms 20ms"
        );
        // A spread alone is a spread around nothing.
        let pareto = Emulation { jitter_ms: 5, distribution: Distribution::Pareto, ..none.clone() };
        assert_eq!(told(pareto), "netem limit 10000 delay 0ms 5ms distribution pareto");
        let bad = Emulation {
            latency_ms: 10,
            jitter_ms: 2,
            distribution: Distribution::Normal,
            loss_percent: 0.5,
            duplicate_percent: 1.0,
            reorder_percent: 25.0,
            corrupt_percent: 2.5,
        };
        assert_eq!(
            told(bad),
            "netem limit 10000 delay 10ms 2ms distribution normal loss 0.5% duplicate 1% reorder 25% corrupt 2.5%"
        );
        assert_eq!(told(Emulation { loss_percent: 100.0, ..none }), "netem limit 10000 loss 100%");
    }

    #[test]
    fn statistics_are_read_by_handle() {
        let text = r#"[{"kind":"htb","handle":"1:","root":true,"packets":2092,"drops":5},
            {"kind":"tbf","handle":"1a:","parent":"1:1a","packets":2075,"drops":6,"overlimits":1911,
             "backlog":0,"qlen":0},
            {"kind":"netem","handle":"1b:","parent":"1:1b","packets":1,"drops":0,"overlimits":0,
             "backlog":3,"qlen":0}]"#;
        let queues = parse(text).unwrap();
        let queue = Queue { packets: 2075, overlimits: 1911, drops: 6, waiting: 0 };
        assert_eq!(queues[&0x1a], queue);
        assert_eq!(queues[&0x1b].waiting, 1);
        assert_eq!(queues.len(), 2);
        assert!(parse("").is_err());
    }

    #[test]
    fn minor_numbers_are_not_given_twice() {
        let mut shaper = Shaper::default();
        let first = shaper.free_minor();
        let class = |minor| Class {
            cable: "c".into(),
            minor,
            fault: 1,
            shape: Shape::Rate(1_000),
            healed: false,
        };
        shaper.classes.push(class(first));
        shaper.last_minor = 0xffef;
        assert_eq!((first, shaper.free_minor()), (0x10, 0x11));
    }
}
