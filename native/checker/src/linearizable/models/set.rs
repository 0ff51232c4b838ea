//! A set.
//!
//! `add v`, `remove v`, `contains v`, and `read` of all elements. An `add` or `remove` that answers true
//! or false (alone, or as `[v answer]`) says whether it changed the set; one that answers with its element
//! says nothing. `contains` answers likewise, and without answer says nothing.

use fuzz_dist_core::Value;

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model, elements, told};
use crate::linearizable::snapshots::Snapshot;

/// See the module.
#[derive(Debug)]
pub struct SetModel {
    initial: Value,
}

impl SetModel {
    /// A set that holds `initial` at the start, nothing if not told.
    pub fn new(initial: Option<Value>) -> Result<SetModel, &'static str> {
        Ok(SetModel { initial: Value::set(elements(initial)?) })
    }
}

/// The answer of an operation on one element.
fn answer(argument: &Value, result: &Value) -> Option<bool> {
    match (argument, result) {
        (Value::Bool(_), Value::Bool(_)) => None,
        (_, Value::Bool(answer)) => Some(*answer),
        (argument, result) => match result.key_and_value()? {
            (element, Value::Bool(answer)) if element == argument => Some(*answer),
            _ => None,
        },
    }
}

impl Model for SetModel {
    fn name(&self) -> &'static str {
        "set"
    }

    fn functions(&self) -> &'static str {
        "add, remove, contains and read"
    }

    fn initial(&self) -> Value {
        self.initial.clone()
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let changed = result.and_then(|result| answer(argument, result));
        let argument = match (f, changed) {
            ("add" | "remove", None) => told(argument, result)?,
            _ => argument,
        };
        let of_element = |f| Some(Action { f, value: argument.clone() });
        Ok(match (f, result, changed) {
            ("add", _, None) => of_element("add"),
            ("add", _, Some(true)) => of_element("add new"),
            ("remove", _, None) => of_element("remove"),
            ("remove", _, Some(true)) => of_element("remove present"),
            ("add", _, Some(false)) | ("contains", _, Some(true)) => of_element("contains"),
            ("remove", _, Some(false)) | ("contains", _, Some(false)) => of_element("lacks"),
            ("contains", Some(_), None) => {
                return Err(Misread::Expected("true or false, or [element true|false]"));
            }
            ("read" | "contains", None, _) => None,
            ("read", Some(Value::Nil), _) => Some(Action { f: "read", value: Value::set([]) }),
            ("read", Some(read), _) => {
                let items = read.items().ok_or(Misread::Expected("a set or list"))?;
                Some(Action { f: "read", value: Value::set(items.iter().cloned()) })
            }
            _ => return Err(Misread::NoSuchFunction),
        })
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let items = state.items().unwrap_or_default();
        if action.f == "read" {
            return (*state == action.value).then(|| state.clone());
        }
        match (action.f, items.binary_search(&action.value)) {
            ("add" | "contains", Ok(_)) | ("remove" | "lacks", Err(_)) => Some(state.clone()),
            ("add" | "add new", Err(place)) => {
                let mut items = items.to_vec();
                items.insert(place, action.value.clone());
                Some(Value::Set(items.into()))
            }
            ("remove" | "remove present", Ok(place)) => {
                let mut items = items.to_vec();
                items.remove(place);
                Some(Value::Set(items.into()))
            }
            _ => None,
        }
    }

    fn kind(&self, action: &Action) -> Kind {
        match action.f {
            "read" | "contains" | "lacks" => Kind::Observer,
            _ => Kind::Update,
        }
    }

    fn requires(&self, action: &Action) -> Vec<Value> {
        match action.f {
            "contains" | "remove present" => vec![action.value.clone()],
            "read" => action.value.items().unwrap_or_default().to_vec(),
            _ => Vec::new(),
        }
    }

    fn provides(&self, action: &Action) -> Vec<Value> {
        match action.f {
            "add" | "add new" => vec![action.value.clone()],
            _ => Vec::new(),
        }
    }

    fn provided_at_start(&self) -> Vec<Value> {
        self.initial.items().unwrap_or_default().to_vec()
    }

    fn only_grows(&self, actions: &[Action]) -> bool {
        !actions.iter().any(|action| matches!(action.f, "remove" | "remove present"))
    }

    fn can_grow_into(&self, state: &Value, observer: &Action) -> bool {
        let items = state.items().unwrap_or_default();
        match observer.f {
            "lacks" => items.binary_search(&observer.value).is_err(),
            "read" => {
                let seen = observer.value.items().unwrap_or_default();
                let mut rest = seen.iter();
                items.len() <= seen.len() && items.iter().all(|item| rest.any(|s| s == item))
            }
            _ => true,
        }
    }

    fn snapshot<'a>(&self, action: &'a Action) -> Option<Snapshot<'a>> {
        let starts_empty = self.initial.items().is_some_and(<[Value]>::is_empty);
        match action.f {
            _ if !starts_empty => None,
            "add" => Some(Snapshot::Add(&action.value)),
            "read" => action.value.items().map(Snapshot::Read),
            _ => None,
        }
    }

    fn part(&self, action: &Action) -> Option<Value> {
        (action.f != "read").then(|| action.value.clone())
    }
}
