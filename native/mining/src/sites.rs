//! From calls and terms to sites: what waits where, and for how long.

use serde::Serialize;

use crate::beam::Module;
use crate::calls::{self, Kind, Time};
use crate::flow::{Place, Visitor, walk};
use crate::term::Term;

/// How a supervisor restarts; the atoms that its flags begin with.
const STRATEGIES: [&str; 4] = ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"];

/// Whether a child is restarted.
const RESTARTS: [&str; 3] = ["permanent", "transient", "temporary"];

/// Terms in literals deeper than this are not looked into.
const DEPTH_MAX: u32 = 32;

/// How long something waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wait {
    /// So many milliseconds.
    Ms(u64),
    /// For ever.
    Infinity,
    /// Decided when the code runs.
    Variable,
}

impl Wait {
    /// Milliseconds, if they are known and finite.
    pub fn ms(self) -> Option<u64> {
        match self {
            Wait::Ms(ms) => Some(ms),
            _ => None,
        }
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wait::Ms(ms) => write!(f, "{ms}"),
            Wait::Infinity => f.write_str("infinity"),
            Wait::Variable => f.write_str("variable"),
        }
    }
}

/// A place in a program that knows a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Site {
    /// What it is about.
    pub kind: Kind,
    /// The module, or the application.
    pub module: String,
    /// The function; the name of an environment entry.
    pub function: String,
    /// Its arity; absent for environments.
    pub arity: Option<u64>,
    /// The line of its source, where the file says.
    pub line: Option<u32>,
    /// What takes the time: `gen_server:call/3`, `receive … after`.
    pub what: String,
    /// `5000`, `infinity` or `variable`.
    #[serde(rename = "value", serialize_with = "as_text")]
    pub wait: Wait,
    /// Milliseconds, when they are known and finite; of `restarts` the period.
    pub value_ms: Option<u64>,
    /// Of `restarts`: how many are borne in the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u64>,
    /// How often it was seen, on a live node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

fn as_text<S: serde::Serializer>(wait: &Wait, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(wait)
}

impl Site {
    /// In a function of a module.
    pub fn at(kind: Kind, module: &str, place: &Place, what: &str, wait: Wait) -> Site {
        Site {
            kind,
            module: module.to_owned(),
            function: place.function.clone(),
            arity: Some(place.arity),
            line: (place.line > 0).then_some(place.line),
            what: what.to_owned(),
            wait,
            value_ms: wait.ms(),
            intensity: None,
            seen: None,
        }
    }

    /// `module:function/arity`, or `application.entry`.
    pub fn place(&self) -> String {
        match self.arity {
            Some(arity) => format!("{}:{}/{arity}", self.module, self.function),
            None => format!("{}.{}", self.module, self.function),
        }
    }
}

/// Every site of a module.
pub fn sites_of(module: &Module) -> Vec<Site> {
    let mut collector = Collector { module, sites: Vec::new() };
    walk(module, &mut collector);
    collector.sites
}

struct Collector<'a> {
    module: &'a Module,
    sites: Vec<Site>,
}

impl Visitor for Collector<'_> {
    fn call(&mut self, place: &Place, import: usize, arguments: &[Term]) {
        let called = &self.module.imports[import];
        let found = calls::find(&called.module, &called.function, called.arity);
        let Some((kind, time)) = found else { return };
        let what = match called.module.strip_prefix("Elixir.") {
            Some(module) => format!("{module}.{}/{}", called.function, called.arity),
            None => format!("{}:{}/{}", called.module, called.function, called.arity),
        };
        let argument = |index: usize| arguments.get(index).cloned().unwrap_or_default();
        let wait = match time {
            Time::Argument(index) => wait_of(&argument(index)),
            Time::Default(ms) => Some(Wait::Ms(ms)),
            Time::Infinity => Some(Wait::Infinity),
            Time::Option(index, default) => match argument(index).get("timeout") {
                Some(given) => wait_of(&given),
                None => Some(Wait::Ms(default)),
            },
            Time::Supervisor(index) => {
                // Elixir's defaults; `start_link(Module, argument)` has no options here.
                let options = argument(index);
                if matches!(options, Term::List(_)) && options.get("strategy").is_some() {
                    let flags = (options.get("max_restarts"), options.get("max_seconds"));
                    self.restarts(place, &what, flags, (3, 5));
                }
                return;
            }
        };
        if let Some(wait) = wait {
            self.sites.push(Site::at(kind, &self.module.name, place, &what, wait));
        }
    }

    fn wait(&mut self, place: &Place, time: &Term) {
        if let Some(wait) = wait_of(time) {
            let what = "receive … after";
            self.sites.push(Site::at(Kind::ReceiveAfter, &self.module.name, place, what, wait));
        }
    }

    fn literal(&mut self, place: &Place, term: &Term) {
        self.within(place, term, DEPTH_MAX);
    }

    fn built(&mut self, place: &Place, term: &Term) {
        self.shape(place, term);
    }
}

impl Collector<'_> {
    /// A literal and everything in it.
    fn within(&mut self, place: &Place, term: &Term, depth: u32) {
        if depth == 0 {
            return;
        }
        self.shape(place, term);
        match term {
            Term::Tuple(items) | Term::List(items) => {
                items.iter().for_each(|item| self.within(place, item, depth - 1));
            }
            Term::Map { pairs, .. } => {
                pairs.iter().for_each(|(_, value)| self.within(place, value, depth - 1));
            }
            _ => {}
        }
    }

    /// Supervisor flags, child specifications and time-outs of state machines.
    fn shape(&mut self, place: &Place, term: &Term) {
        match term {
            Term::Tuple(parts) => self.tuple(place, parts),
            Term::Map { .. } => {
                let certainly = |key: &str| !matches!(term.get(key), None | Some(Term::Unknown));
                let strategy = term.get("strategy");
                let named = strategy.as_ref().and_then(Term::as_atom);
                if named.is_some_and(|name| STRATEGIES.contains(&name))
                    || (certainly("intensity") && certainly("period"))
                {
                    let flags = (term.get("intensity"), term.get("period"));
                    self.restarts(place, "supervisor flags", flags, (1, 5));
                } else if certainly("shutdown") && term.get("start").is_some() {
                    self.shutdown(place, term.get("shutdown"));
                }
            }
            _ => {}
        }
    }

    fn tuple(&mut self, place: &Place, parts: &[Term]) {
        match parts {
            [Term::Atom(strategy), intensity, period] if STRATEGIES.contains(&&**strategy) => {
                let flags = (Some(intensity.clone()), Some(period.clone()));
                self.restarts(place, "supervisor flags", flags, (1, 5));
            }
            [Term::Atom(name), Term::Int(ms @ 0..), _, ..]
                if matches!(&**name, "state_timeout" | "timeout") && parts.len() <= 4 =>
            {
                self.state_timeout(place, name, *ms);
            }
            [Term::Tuple(name), Term::Int(ms @ 0..), _, ..]
                if parts.len() <= 4
                    && matches!(name.as_slice(), [Term::Atom(t), _] if **t == *"timeout") =>
            {
                self.state_timeout(place, "{timeout, Name}", *ms);
            }
            [_, _, Term::Atom(restart), shutdown, Term::Atom(child), _]
                if RESTARTS.contains(&&**restart)
                    && matches!(&**child, "worker" | "supervisor") =>
            {
                self.shutdown(place, Some(shutdown.clone()));
            }
            _ => {}
        }
    }

    fn state_timeout(&mut self, place: &Place, name: &str, ms: i64) {
        let (module, wait) = (&self.module.name, Wait::Ms(ms.unsigned_abs()));
        self.sites.push(Site::at(Kind::StateTimeout, module, place, name, wait));
    }

    fn shutdown(&mut self, place: &Place, time: Option<Term>) {
        if let Some(wait @ (Wait::Ms(_) | Wait::Infinity)) = time.as_ref().and_then(wait_of) {
            let (module, what) = (&self.module.name, "child specification");
            self.sites.push(Site::at(Kind::Shutdown, module, place, what, wait));
        }
    }

    /// Intensity and period of a supervisor; what is absent is the default.
    fn restarts(
        &mut self,
        place: &Place,
        what: &str,
        (intensity, period): (Option<Term>, Option<Term>),
        default: (u64, u64),
    ) {
        let number = |given: Option<Term>, default: u64| match given {
            None => Some(default),
            Some(Term::Int(number)) => u64::try_from(number).ok(),
            Some(_) => None,
        };
        let (intensity, period_s) = (number(intensity, default.0), number(period, default.1));
        let wait = period_s.map_or(Wait::Variable, |s| Wait::Ms(s.saturating_mul(1000)));
        let mut site = Site::at(Kind::Restarts, &self.module.name, place, what, wait);
        site.intensity = intensity;
        self.sites.push(site);
    }
}

/// What a term means as a time; `None` if it certainly is none.
fn wait_of(term: &Term) -> Option<Wait> {
    match term {
        Term::Int(ms) => u64::try_from(*ms).ok().map(Wait::Ms),
        Term::Atom(name) => (**name == *"infinity").then_some(Wait::Infinity),
        Term::Unknown => Some(Wait::Variable),
        // {clean_timeout, Time} and {dirty_timeout, Time} of gen_statem.
        Term::Tuple(parts) => match parts.as_slice() {
            [Term::Atom(name), time] if name.ends_with("_timeout") => wait_of(time),
            _ => None,
        },
        _ => None,
    }
}
