//! `{name}`, `{port:amqp}` … in commands and environments of a spec.
//!
//! A placeholder is a lower-case word in braces, with further parts after colons. Anything else in braces
//! stays as it is (Erlang's `{127,0,0,1}`), and so do `${VARIABLE}` of shells and `#{expression}` of Elixir.

use std::collections::BTreeMap;

/// What stands behind the placeholders of one VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// `{name}`, `{short}` … by word.
    pub words: BTreeMap<&'static str, String>,
    /// `{host:NODE}`: the host part of that node's name.
    pub hosts: BTreeMap<String, String>,
    /// `{port:NAME}`: where this node itself listens.
    pub ports: BTreeMap<String, u16>,
    /// `{peer:NAME:NODE}`: where this VM reaches that port of that node.
    pub peers: BTreeMap<(String, String), u16>,
}

/// The placeholder that is not known, and those that are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the placeholder {{{unknown}}} is not known here; known are {known}")]
pub struct UnknownPlaceholder {
    /// What stands between the braces.
    pub unknown: String,
    /// All that could stand there.
    pub known: String,
}

impl Values {
    /// The text with its placeholders replaced.
    pub fn fill(&self, text: &str) -> Result<String, UnknownPlaceholder> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from_open) = rest.split_at(open);
            filled.push_str(before);
            let inside = from_open[1..].split_once('}').map(|(inside, _)| inside);
            match inside.filter(|inside| is_placeholder(inside) && !before.ends_with(['$', '#'])) {
                Some(inside) => {
                    filled.push_str(&self.value(inside)?);
                    rest = &from_open[inside.len() + 2..];
                }
                None => {
                    filled.push('{');
                    rest = &from_open[1..];
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, inside: &str) -> Result<String, UnknownPlaceholder> {
        let parts: Vec<&str> = inside.split(':').collect();
        let port = match parts.as_slice() {
            [word] => return self.words.get(word).cloned().ok_or_else(|| self.unknown(inside)),
            ["host", node] => {
                return self.hosts.get(*node).cloned().ok_or_else(|| self.unknown(inside));
            }
            ["port", name] => self.ports.get(*name),
            ["peer", name, node] => self.peers.get(&((*name).to_owned(), (*node).to_owned())),
            _ => None,
        };
        port.map(u16::to_string).ok_or_else(|| self.unknown(inside))
    }

    fn unknown(&self, inside: &str) -> UnknownPlaceholder {
        let words = self.words.keys().map(|word| format!("{{{word}}}"));
        let hosts = self.hosts.keys().map(|node| format!("{{host:{node}}}"));
        let ports = self.ports.keys().map(|name| format!("{{port:{name}}}"));
        let peers = self.peers.keys().map(|(name, node)| format!("{{peer:{name}:{node}}}"));
        let known: Vec<String> = words.chain(hosts).chain(ports).chain(peers).collect();
        UnknownPlaceholder { unknown: inside.to_owned(), known: known.join(", ") }
    }
}

fn is_placeholder(inside: &str) -> bool {
    let word = inside.split(':').next().unwrap_or_default();
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            words: BTreeMap::from([("name", "n1@127.0.0.1".into()), ("data_dir", "/d".into())]),
            hosts: BTreeMap::from([("n2".into(), "10.200.0.2".into())]),
            ports: BTreeMap::from([("amqp".into(), 5672)]),
            peers: BTreeMap::from([(("amqp".into(), "n2".into()), 6001)]),
        }
    }

    #[test]
    fn known_placeholders_are_replaced_wherever_they_stand() {
        let filled =
            values().fill("-name {name} \"{data_dir}/x\"{port:amqp},{peer:amqp:n2}").unwrap();
        assert_eq!(filled, "-name n1@127.0.0.1 \"/d/x\"5672,6001");
        assert_eq!(values().fill("{host:n2}").unwrap(), "10.200.0.2");
    }

    #[test]
    fn what_only_looks_like_one_stays() {
        for text in
            ["{127,0,0,1}", "${name}", "#{name}", "{", "}{", "{}", "{Name}", "{a b}", "{{1}}"]
        {
            assert_eq!(values().fill(text).unwrap(), text);
        }
    }

    #[test]
    fn unknown_ones_are_named_with_those_that_exist() {
        for unknown in ["nmae", "port:http", "peer:amqp:n3", "port", "name:x"] {
            let error = values().fill(&format!("a {{{unknown}}}")).unwrap_err();
            assert_eq!(error.unknown, unknown);
            assert!(error.to_string().contains("{port:amqp}, {peer:amqp:n2}"), "{error}");
        }
    }
}
