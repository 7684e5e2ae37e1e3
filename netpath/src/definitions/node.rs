//! The YAML document as a tree whose every node knows its place.
//!
//! Built from the parser's events without recursion. Nesting and the size that aliases unfold to are bounded, so that
//! whoever walks the tree may recurse and no document can exhaust memory or stack.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::findings::{Findings, Pos};

/// Deeper nesting than any definitions have.
const HEIGHT_MAX: u32 = 64;
/// More values than any definitions have, aliases unfolded.
pub(super) const WEIGHT_MAX: u32 = 4_000_000;

/// One value of the document.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) at: Pos,
    pub(super) kind: Kind<'a>,
    /// Levels below and including this one.
    height: u32,
    /// Nodes below and including this one, aliases unfolded.
    weight: u32,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    /// A number, string, boolean or null; `plain` when it is not quoted.
    Scalar { text: Cow<'a, str>, plain: bool },
    /// `[a, b]` or `- a`.
    List(Vec<Rc<Node<'a>>>),
    /// `{a: b}` or `a: b`, keys in the document's order, each once.
    Map(Vec<(Key<'a>, Rc<Node<'a>>)>),
}

/// The name of a field, with its place.
#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) at: Pos,
    pub(super) name: Cow<'a, str>,
}

impl<'a> Node<'a> {
    /// What several documents say together, each within its own bounds.
    pub(super) fn joined(at: Pos, kind: Kind<'a>) -> Rc<Self> {
        Rc::new(Self { at, kind, height: 0, weight: 0 })
    }
}

impl Node<'_> {
    /// How many values it unfolds to.
    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether the value is left out: `~`, `null` or nothing behind the colon.
    pub(super) fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, plain: true } => matches!(&**text, "" | "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }

    /// The value as a message quotes it.
    pub(super) fn quote(&self) -> String {
        match &self.kind {
            Kind::Scalar { text, .. } => text.to_string(),
            Kind::List(_) => "[…]".into(),
            Kind::Map(_) => "{…}".into(),
        }
    }
}

/// Reads the one document in `text`, the source that `findings` had opened last. `None` when it has none, or when it is
/// no YAML, which is a finding.
pub(super) fn read<'a>(text: &'a str, findings: &mut Findings) -> Option<Rc<Node<'a>>> {
    let before = findings.lines_before();
    let mut builder = Builder { before, findings, open: Vec::new(), anchors: HashMap::new(), root: None, documents: 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let at = pos(*error.marker(), before);
                let line = text.lines().nth((at.line - before) as usize - 1).unwrap_or("(end of the file)");
                let expected = "correct the YAML here, or the indentation or bracket that was left open above";
                builder.findings.add(at, line.trim(), format_args!("not YAML: {}", error.info()), expected);
                return None;
            }
        };
        if builder.take(event, span).is_err() {
            return None;
        }
    }
    builder.root
}

/// A place, whose line counts from the first source's first one.
fn pos(marker: Marker, before: u32) -> Pos {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Pos { line: count(marker.line()).saturating_add(before), column: count(marker.col() + 1) }
}

/// The document goes beyond a limit; a finding says which.
struct Refused;

/// A list or map whose end has not come yet.
struct Open<'a> {
    at: Pos,
    anchor: usize,
    items: Items<'a>,
}

enum Items<'a> {
    List(Vec<Rc<Node<'a>>>),
    Map { fields: Vec<(Key<'a>, Rc<Node<'a>>)>, pending: Option<Key<'a>>, names: HashMap<String, Pos> },
}

struct Builder<'a, 'f> {
    /// Lines of the sources before this one.
    before: u32,
    findings: &'f mut Findings,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Rc<Node<'a>>>,
    root: Option<Rc<Node<'a>>>,
    documents: u32,
}

impl<'a> Builder<'a, '_> {
    fn take(&mut self, event: Event<'a>, span: Span) -> Result<(), Refused> {
        let at = pos(span.start, self.before);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let expected = "write one document; `---` may stand only at the beginning";
                    self.findings.add(at, "---", "a second document in the file", expected);
                    return Err(Refused);
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(at, tag.as_deref());
                self.scalar(at, text, style == ScalarStyle::Plain, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(at, tag.as_deref());
                self.begin(at, anchor, Items::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(at, tag.as_deref());
                self.begin(at, anchor, Items::Map { fields: Vec::new(), pending: None, names: HashMap::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.end(open),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.place(node),
                None => {
                    self.findings.add(at, "*", "an alias inside the value that it names", "write the value out");
                    Err(Refused)
                }
            },
        }
    }

    fn refuse_tag(&mut self, at: Pos, tag: Option<&Tag>) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            let tag = format!("{}{}", tag.handle, tag.suffix);
            self.findings.add(at, tag, "definitions have no tags", "remove the tag");
        }
    }

    fn scalar(&mut self, at: Pos, text: Cow<'a, str>, plain: bool, anchor: usize) -> Result<(), Refused> {
        // A key is a name, not a node: tens of thousands of them need no allocation of their own.
        if anchor == 0
            && let Some(Open { items: Items::Map { pending: pending @ None, .. }, .. }) = self.open.last_mut()
        {
            *pending = Some(Key { at, name: text });
            return Ok(());
        }
        let node = Rc::new(Node { at, kind: Kind::Scalar { text, plain }, height: 1, weight: 1 });
        self.remember(anchor, &node);
        self.place(node)
    }

    fn begin(&mut self, at: Pos, anchor: usize, items: Items<'a>) -> Result<(), Refused> {
        if self.open.len() >= HEIGHT_MAX as usize {
            return self.too_deep(at);
        }
        self.open.push(Open { at, anchor, items });
        Ok(())
    }

    fn end(&mut self, open: Open<'a>) -> Result<(), Refused> {
        let Open { at, anchor, items } = open;
        let kind = match items {
            Items::List(items) => Kind::List(items),
            Items::Map { fields, .. } => Kind::Map(fields),
        };
        let (mut height, mut weight) = (0, 1u32);
        let mut count = |node: &Node| {
            height = node.height.max(height);
            weight = weight.saturating_add(node.weight);
        };
        match &kind {
            Kind::List(items) => items.iter().for_each(|node| count(node)),
            Kind::Map(fields) => fields.iter().for_each(|(_, node)| count(node)),
            Kind::Scalar { .. } => {}
        }
        if height >= HEIGHT_MAX {
            return self.too_deep(at);
        }
        if weight > WEIGHT_MAX {
            let problem = format_args!("unfolds to more than {WEIGHT_MAX} values");
            self.findings.add(at, "*", problem, "write the values out instead of aliases of aliases");
            return Err(Refused);
        }
        let node = Rc::new(Node { at, kind, height: height + 1, weight });
        self.remember(anchor, &node);
        self.place(node)
    }

    fn too_deep(&mut self, at: Pos) -> Result<(), Refused> {
        let problem = format_args!("nested more than {HEIGHT_MAX} levels deep");
        self.findings.add(at, "…", problem, "see docs/definitions.md for the shape of a document");
        Err(Refused)
    }

    /// Anchors count from one; zero is none.
    fn remember(&mut self, anchor: usize, node: &Rc<Node<'a>>) {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(node));
        }
    }

    /// Puts a finished value where it belongs: into the open list or map, or at the root.
    fn place(&mut self, node: Rc<Node<'a>>) -> Result<(), Refused> {
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { fields, pending, names }) => match pending.take() {
                None => match &node.kind {
                    Kind::Scalar { text, .. } => *pending = Some(Key { at: node.at, name: text.clone() }),
                    _ => {
                        self.findings.add(node.at, node.quote(), "a list or map as a field's name", "use a word");
                        *pending = Some(Key { at: node.at, name: Cow::Borrowed("…") });
                    }
                },
                Some(key) => match names.get(&*key.name) {
                    Some(first) => {
                        let problem = format!("given twice, first in {}", self.findings.line(*first));
                        self.findings.add(key.at, &key.name, problem, "keep one of the two");
                    }
                    None => {
                        names.insert(key.name.to_string(), key.at);
                        fields.push((key, node));
                    }
                },
            },
        }
        Ok(())
    }
}
