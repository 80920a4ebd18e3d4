//! Whole texts and prefixes, all at once: a trie.

use crate::atom::{Atom, How};
use proxy_core::xds::StringMatch;

/// Where one stands: at a node, or beyond one, having left the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct At {
    /// The node; of one who left: the deepest one passed that has prefixes.
    pub(crate) node: u32,
    pub(crate) left: bool,
}

impl At {
    pub(crate) const START: At = At {
        node: 0,
        left: false,
    };
}

/// A trie of the atoms that are whole texts or prefixes.
#[derive(Clone, Debug)]
pub(crate) struct Literals {
    nodes: Vec<Node>,
    /// Of lower case; texts are turned to it as they are read.
    ignore_case: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// In the order of their bytes.
    children: Vec<(u8, u32)>,
    /// Atoms of just this text.
    exact: Vec<u32>,
    /// Atoms of all texts that begin with this one.
    prefix: Vec<u32>,
    /// The deepest node with prefixes: above, and above or here; without any the root.
    above: u32,
    covered_by: u32,
}

impl Literals {
    /// Of those `atoms` that are such, and ignore case or do not.
    pub(crate) fn new(atoms: &[Atom], ignore_case: bool) -> Literals {
        let mut trie = Literals {
            nodes: vec![Node::default()],
            ignore_case,
        };
        for (number, atom) in (0..).zip(atoms) {
            if atom.ignore_case != ignore_case {
                continue;
            }
            match &atom.how {
                How::Text(StringMatch::Exact(text)) => {
                    let at = trie.add(text.as_bytes());
                    trie.nodes[at].exact.push(number);
                }
                How::Text(StringMatch::Prefix(text)) => {
                    let at = trie.add(text.as_bytes());
                    trie.nodes[at].prefix.push(number);
                }
                How::SeparatedPrefix(text) => {
                    let at = trie.add(text.as_bytes());
                    trie.nodes[at].exact.push(number);
                    let at = trie.add(format!("{text}/").as_bytes());
                    trie.nodes[at].prefix.push(number);
                }
                How::Text(_) => {}
            }
        }
        // Children come after their parents.
        for at in 0..trie.nodes.len() {
            let node = &mut trie.nodes[at];
            let has_prefixes = !node.prefix.is_empty();
            node.covered_by = if has_prefixes { at as u32 } else { node.above };
            let covered_by = node.covered_by;
            for (_, child) in node.children.clone() {
                trie.nodes[child as usize].above = covered_by;
            }
        }
        trie
    }

    fn add(&mut self, text: &[u8]) -> usize {
        let mut at = 0;
        for &byte in text {
            let byte = self.read(byte);
            let children = &self.nodes[at].children;
            at = match children.binary_search_by_key(&byte, |&(byte, _)| byte) {
                Ok(found) => children[found].1 as usize,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes[at].children.insert(place, (byte, new as u32));
                    self.nodes.push(Node::default());
                    new
                }
            };
        }
        at
    }

    fn read(&self, byte: u8) -> u8 {
        if self.ignore_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    }

    pub(crate) fn step(&self, at: At, byte: u8) -> At {
        if at.left {
            return at;
        }
        let node = &self.nodes[at.node as usize];
        let byte = self.read(byte);
        match node.children.binary_search_by_key(&byte, |&(byte, _)| byte) {
            Ok(found) => At {
                node: node.children[found].1,
                left: false,
            },
            Err(_) => At {
                node: node.covered_by,
                left: true,
            },
        }
    }

    /// The bytes that lead on within the trie.
    pub(crate) fn onward(&self, at: At) -> impl Iterator<Item = u8> {
        let children: &[(u8, u32)] = match at.left {
            true => &[],
            false => &self.nodes[at.node as usize].children,
        };
        let ignore_case = self.ignore_case;
        children.iter().flat_map(move |&(byte, _)| {
            let other = ignore_case.then(|| byte.to_ascii_uppercase());
            std::iter::once(byte).chain(other.filter(|&other| other != byte))
        })
    }

    /// Adds the atoms that a text which ends here has.
    pub(crate) fn collect(&self, at: At, atoms: &mut Vec<u32>) {
        let mut node = &self.nodes[at.node as usize];
        if !at.left {
            atoms.extend(&node.exact);
        }
        let mut next = node.covered_by;
        loop {
            node = &self.nodes[next as usize];
            atoms.extend(&node.prefix);
            if next == 0 {
                return;
            }
            next = node.above;
        }
    }
}
