//! Collections that elements are put into and taken out of: queues with and without order, stacks, and
//! priority queues.
//!
//! Putting in is `enqueue`, `push`, `insert` or `add`; taking out is `dequeue`, `pop`, `poll` and so on, whose
//! result is the element, or nil when there was none. A taking whose result is not known (`info`) took
//! what was due, if it took place.

use fuzz_dist_core::Value;

use crate::linearizable::model::Kind;
use crate::linearizable::models::{Action, Misread, Model, Role, elements, told};
use crate::linearizable::unambiguous::{Discipline, have_order, order_of_priorities};

/// What a collection calls its functions.
struct Words {
    put: &'static str,
    take: &'static str,
    empty: &'static str,
    any: &'static str,
}

const QUEUE: Words = Words {
    put: "enqueue",
    take: "dequeue",
    empty: "dequeue (empty)",
    any: "dequeue (result unknown)",
};
const STACK: Words =
    Words { put: "push", take: "pop", empty: "pop (empty)", any: "pop (result unknown)" };
const PRIORITY: Words = Words {
    put: "insert",
    take: "delete",
    empty: "delete (empty)",
    any: "delete (result unknown)",
};

impl Words {
    fn action(
        &self,
        puts: bool,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let (f, value) = match (puts, result) {
            (true, _) => (self.put, told(argument, result)?.clone()),
            (false, None) => (self.any, Value::Nil),
            (false, Some(Value::Nil)) => (self.empty, Value::Nil),
            (false, Some(element)) => (self.take, element.clone()),
        };
        Ok(Some(Action { f, value }))
    }

    fn role<'a>(&self, action: &'a Action) -> Role<'a> {
        match action.f {
            f if f == self.put => Role::Put(&action.value),
            f if f == self.take => Role::Take(&action.value),
            f if f == self.empty => Role::Empty,
            _ => Role::TakeAny,
        }
    }

    fn kind(&self, action: &Action) -> Kind {
        if self.role(action) == Role::Empty { Kind::Observer } else { Kind::Update }
    }

    /// All operations on an element can be left out together; what takes or sees any element cannot.
    fn group(&self, action: &Action) -> Option<Value> {
        match self.role(action) {
            Role::Put(element) | Role::Take(element) => Some(element.clone()),
            _ => None,
        }
    }
}

/// Whether a function of a queue puts in (`true`) or takes out.
fn queue_puts(f: &str) -> Result<bool, Misread> {
    match f {
        "enqueue" => Ok(true),
        "dequeue" => Ok(false),
        _ => Err(Misread::NoSuchFunction),
    }
}

/// What all of these models say alike.
macro_rules! collection {
    ($name:literal, $functions:literal, $words:expr) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn functions(&self) -> &'static str {
            $functions
        }

        fn initial(&self) -> Value {
            Value::list(self.initial.clone())
        }

        fn only_observes(&self, action: &Action) -> bool {
            $words.role(action) == Role::Empty
        }

        fn group(&self, action: &Action) -> Option<Value> {
            $words.group(action)
        }

        fn role<'a>(&self, action: &'a Action) -> Option<Role<'a>> {
            Some($words.role(action))
        }
    };
}

/// A queue that is first in, first out.
#[derive(Debug)]
pub struct FifoQueue {
    initial: Vec<Value>,
}

impl FifoQueue {
    /// A queue that holds `initial`, the first to come out first.
    pub fn new(initial: Option<Value>) -> Result<FifoQueue, &'static str> {
        Ok(FifoQueue { initial: elements(initial)? })
    }
}

impl Model for FifoQueue {
    collection!("fifo-queue", "enqueue and dequeue", QUEUE);

    fn discipline(&self) -> Option<Discipline> {
        self.initial.is_empty().then_some(Discipline::Fifo)
    }

    fn kind(&self, action: &Action) -> Kind {
        QUEUE.kind(action)
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        QUEUE.action(queue_puts(f)?, argument, result)
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let items = state.items().unwrap_or_default();
        match QUEUE.role(action) {
            Role::Put(element) => {
                let mut items = items.to_vec();
                items.push(element.clone());
                Some(Value::list(items))
            }
            Role::Empty => items.is_empty().then(|| state.clone()),
            Role::Take(element) if items.first() != Some(element) => None,
            _ => Some(Value::list(items.get(1..)?.to_vec())),
        }
    }
}

/// A stack: last in, first out.
#[derive(Debug)]
pub struct Stack {
    initial: Vec<Value>,
}

impl Stack {
    /// A stack that holds `initial`, the last to come out first.
    pub fn new(initial: Option<Value>) -> Result<Stack, &'static str> {
        Ok(Stack { initial: elements(initial)? })
    }
}

impl Model for Stack {
    collection!("stack", "push and pop", STACK);

    fn discipline(&self) -> Option<Discipline> {
        self.initial.is_empty().then_some(Discipline::Stack)
    }

    fn kind(&self, action: &Action) -> Kind {
        STACK.kind(action)
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let puts = match f {
            "push" => true,
            "pop" => false,
            _ => return Err(Misread::NoSuchFunction),
        };
        STACK.action(puts, argument, result)
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let items = state.items().unwrap_or_default();
        match STACK.role(action) {
            Role::Put(element) => {
                let mut items = items.to_vec();
                items.push(element.clone());
                Some(Value::list(items))
            }
            Role::Empty => items.is_empty().then(|| state.clone()),
            Role::Take(element) if items.last() != Some(element) => None,
            _ => Some(Value::list(items.split_last()?.1.to_vec())),
        }
    }
}

/// A queue from which the element of the least priority comes out first, or that of the greatest. The
/// priority of `[priority payload]` is its first part, that of anything else it is itself. Among equals
/// any may come out.
#[derive(Debug)]
pub struct PriorityQueue {
    initial: Vec<Value>,
    greatest_first: bool,
}

impl PriorityQueue {
    /// A queue that holds `initial`.
    pub fn new(initial: Option<Value>, greatest_first: bool) -> Result<Self, &'static str> {
        let mut initial = elements(initial)?;
        initial.sort_unstable();
        Ok(PriorityQueue { initial, greatest_first })
    }

    /// Whether `a` must come out before `b`.
    fn goes_first(&self, a: &Value, b: &Value) -> bool {
        let order = order_of_priorities(a, b);
        if self.greatest_first { order.is_gt() } else { order.is_lt() }
    }
}

impl Model for PriorityQueue {
    collection!(
        "priority-queue",
        "insert (or enqueue, add) and delete-min or delete-max (or dequeue, poll, by the option priority)",
        PRIORITY
    );

    fn discipline(&self) -> Option<Discipline> {
        self.initial.is_empty().then_some(match self.greatest_first {
            true => Discipline::GreatestFirst,
            false => Discipline::LeastFirst,
        })
    }

    fn kind(&self, action: &Action) -> Kind {
        PRIORITY.kind(action)
    }

    fn refuses(&self, actions: &[Action]) -> Option<&'static str> {
        let put = actions.iter().filter_map(|action| match PRIORITY.role(action) {
            Role::Put(element) => Some(element),
            _ => None,
        });
        let mut elements: Vec<&Value> = put.chain(&self.initial).collect();
        if !have_order(elements.iter().copied()) {
            return Some(
                "priorities are all numbers, all text or all names; those of this history have no \
                 order that is known",
            );
        }
        let takes_any = |action: &Action| PRIORITY.role(action) == Role::TakeAny;
        if !actions.iter().any(takes_any) {
            return None;
        }
        elements.sort_unstable_by(|a, b| order_of_priorities(a, b));
        elements
            .windows(2)
            .any(|pair| pair[0] != pair[1] && order_of_priorities(pair[0], pair[1]).is_eq())
            .then_some(
                "different elements have the same priority, and of some delete it is not known which \
                 element it took; only distinct priorities can be decided then",
            )
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        let puts = match (f, self.greatest_first) {
            ("insert" | "enqueue" | "add", _) => true,
            ("delete-min" | "extract-min" | "remove-min" | "poll-min" | "pop-min", false) => false,
            ("delete-max" | "extract-max" | "remove-max" | "poll-max" | "pop-max", true) => false,
            ("dequeue" | "delete" | "poll", _) => false,
            _ => return Err(Misread::NoSuchFunction),
        };
        PRIORITY.action(puts, argument, result)
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let mut items = state.items().unwrap_or_default().to_vec();
        match PRIORITY.role(action) {
            // Kept in order, so that equal contents are equal states.
            Role::Put(element) => {
                let place = items.partition_point(|item| item < element);
                items.insert(place, element.clone());
            }
            Role::Empty => return items.is_empty().then(|| state.clone()),
            Role::Take(element) => {
                let place = items.binary_search(element).ok()?;
                if items.iter().any(|item| self.goes_first(item, element)) {
                    return None;
                }
                items.remove(place);
            }
            Role::TakeAny => {
                let first = items.iter().enumerate().reduce(|first, item| {
                    if self.goes_first(item.1, first.1) { item } else { first }
                });
                let place = first?.0;
                items.remove(place);
            }
        }
        Some(Value::list(items))
    }
}

/// A queue without order: a dequeue takes any element that is there.
///
/// What a dequeue of unknown result took is settled as late as can be: the state is what would be there
/// without such dequeues and how many of them took place. They may take place at any later time, so
/// nothing is lost by counting them only; where the queue was seen empty, they took what was there. So
/// finding nothing may change the state, and is no mere observation to the search.
#[derive(Debug)]
pub struct UnorderedQueue {
    initial: Vec<Value>,
}

impl UnorderedQueue {
    /// A queue that holds `initial`.
    pub fn new(initial: Option<Value>) -> Result<UnorderedQueue, &'static str> {
        let mut initial = elements(initial)?;
        initial.sort_unstable();
        Ok(UnorderedQueue { initial })
    }
}

impl Model for UnorderedQueue {
    collection!("unordered-queue", "enqueue and dequeue", QUEUE);

    fn discipline(&self) -> Option<Discipline> {
        self.initial.is_empty().then_some(Discipline::Unordered)
    }

    fn action(
        &self,
        f: &str,
        argument: &Value,
        result: Option<&Value>,
    ) -> Result<Option<Action>, Misread> {
        QUEUE.action(queue_puts(f)?, argument, result)
    }

    fn step(&self, state: &Value, action: &Action) -> Option<Value> {
        let (items, taken) = match state {
            Value::Tuple(parts) => (parts[0].items()?, parts[1].as_int()? as usize),
            items => (items.items()?, 0),
        };
        let mut items = items.to_vec();
        let mut taken = taken;
        match QUEUE.role(action) {
            // Kept in order, so that equal contents are equal states.
            Role::Put(element) => {
                let place = items.partition_point(|item| item < element);
                items.insert(place, element.clone());
            }
            Role::Take(element) if items.len() > taken => {
                let place = items.binary_search(element).ok()?;
                items.remove(place);
            }
            Role::TakeAny if items.len() > taken => taken += 1,
            Role::Empty if items.len() == taken => {
                items.clear();
                taken = 0;
            }
            _ => return None,
        }
        Some(match taken {
            0 => Value::list(items),
            taken => Value::tuple(vec![Value::list(items), Value::Int(taken as i64)]),
        })
    }
}
